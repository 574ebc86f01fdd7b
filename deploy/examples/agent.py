"""A small agent for Cairn: agent.py AMQP_URL ID. Needs pika 1.3. docs/protocol.md says what it says, and why.

It has no journal: each start is a new life, and the coordinator tries again what the last one held. It stops tasks
without asking them first, leaves timers and time-outs to other agents, and the output of its tasks to whoever reads its
own. When the broker is gone it ends, tasks and all: let something start it again."""
import json, math, os, pika, signal, subprocess, sys, time, uuid

URL, ME, LIFE = sys.argv[1], sys.argv[2], time.time_ns() // 1_000  # LIFE is the incarnation: it rises with each start
ARGUMENTS = {"x-queue-type": "classic", "x-max-length": 100_000, "x-max-length-bytes": 268_435_456,
             "x-overflow": "reject-publish", "x-dead-letter-exchange": "cairn.dead", "x-expires": 3_600_000}
known, epochs = {}, {}  # attempts by (run, task, attempt), until their run is forgotten; the highest epoch of each run
link = {"welcome": False, "said": 0, "heard": 0, "lease_millis": math.inf, "heartbeat_millis": 2_000}

def now(): return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # goes on while the machine sleeps

def say(kind, **members):  # whether it arrives does not matter: all that does is said again
    body = json.dumps({"protocol": 1, "type": kind, "agent": ME, "incarnation": LIFE, **members})
    about = pika.BasicProperties("application/json", message_id=str(uuid.uuid4()), type=kind, delivery_mode=2)
    channel.basic_publish("cairn.reports", "cairn.coordinator", body, about)

def tell(key, kind=None, **members):  # an attempt's new state, or its present one again
    if kind: known[key]["state"] = {"type": kind, "task": key[1], "attempt": key[2], **members}
    known[key]["told"] = now()
    say("reports", run=key[0], reports=[known[key]["state"]])

def finish(key, **outcome):
    micros = time.time_ns() // 1_000
    tell(key, "finished", outcome=outcome, started_micros=known[key].get("since", micros), finished_micros=micros)

def start(key, offer):
    names = dict(zip(("CAIRN_MILESTONE", "CAIRN_TASK"), offer["name"].split("/")), CAIRN_ATTEMPT=str(key[2]),
                 CAIRN_RUN=key[0], CAIRN_PROJECT=key[0].rsplit(".", 1)[0], CAIRN_AGENT=ME)
    try:  # in a process group of its own, so that all of it can be ended
        argv = offer["work"].get("argv") or ["/bin/sh", "-c", offer["work"]["script"]]
        process = subprocess.Popen(argv, env={**os.environ, **dict(offer["env"]), **names}, cwd=offer["working_dir"],
                                   stdin=subprocess.DEVNULL, start_new_session=True)
    except (OSError, ValueError, KeyError) as error:
        return finish(key, type="failed", kind="start_failed", message=repr(error))
    known[key].update(process=process, since=time.time_ns() // 1_000)
    tell(key, "started", at_micros=known[key]["since"])

def end(process):  # at once, with all that it has started
    if process and process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
    return process and process.wait()

def look(key, **why):  # at an attempt; with `why` it is to end, with that outcome
    state, process = known[key]["state"]["type"], known[key].get("process")
    if state == "started" and (why or process.poll() is not None):
        code = end(process)
        failed = {"type": "failed", "kind": "exit_code" if code > 0 else "signal", "message": f"it ended with {code}"}
        finish(key, **(why or ({**failed, "exit_code": max(code, 0)} if code else {"type": "completed"})))
    elif state != "started" and state != "finished" and why: finish(key, type="not_started")
    elif state != "started" and now() > known[key]["told"] + 5_000: tell(key)  # nobody has answered

def obey(key, order):
    kind, state = order["type"], known.get(key, {}).get("state", {}).get("type")
    if kind == "offer" and state: tell(key)  # it came twice: it is not run twice
    elif kind == "offer":
        known[key] = {"offer": order}
        tell(key, "accepted", awaits_grant=order["needs_grant"])
    elif kind == "stop":  # also one that we have not heard of: should it come yet, it must not start
        known.setdefault(key, {"state": {"type": "unheard"}})
        look(key, type="stopped")
    elif kind == "acknowledge" and state == "finished": known[key]["told"] = math.inf
    elif kind == "forget":
        for key in [other for other in known if other[0] == key[0]]: end(known.pop(key).get("process"))
    is_go = state == "accepted" if kind == "grant" else kind == "offer" and not (state or order["needs_grant"])
    if is_go: start(key, known[key]["offer"])

def hear(message):
    kind, run = message["type"], message.get("run")
    if kind == "introduce": link["welcome"] = False
    if message.get("incarnation") not in (0, LIFE): return  # for a life that is over
    if kind == "welcome": link.update({name: message[name] for name in message if name in link}, welcome=True, said=0)
    elif kind == "heartbeat_heard": link["heard"] = max(link["heard"], message["sequence"])
    elif kind == "orders" and message["epoch"] >= epochs.get(run, 0):
        epochs[run] = message["epoch"]
        for order in message["orders"]: obey((run, order.get("task"), order.get("attempt")), order)

def beat():  # a heartbeat's sequence is the time at which it was sent, so its answer says from when the lease runs
    link["said"] = now()
    link["heard"] = link["heard"] or now()
    if not link["welcome"]: return say("hello", protocols=[1, 1], version="agent.py 1", content_type="application/json",
                                       slots=os.cpu_count(), labels=[["lang", "python"], ["os", sys.platform]])
    held = sorted(key for key in known if known[key]["told"] < math.inf)
    holds = [{"run": run, "epoch": epochs[run], "attempts": [{"task": key[1], "attempt": key[2]} for key in held
             if key[0] == run]} for run in sorted({key[0] for key in held})]
    say("heartbeat", sequence=link["said"], draining=False, holds=holds)

channel = pika.BlockingConnection(pika.URLParameters(URL)).channel()
channel.queue_declare(f"cairn.agent.{ME}", durable=True, arguments=ARGUMENTS)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    for method, _, body in channel.consume(f"cairn.agent.{ME}", exclusive=True, inactivity_timeout=0.05):
        is_late = now() > link["heard"] + 0.8 * link["lease_millis"]  # from here on others may get what we hold
        for key in known:
            is_lost = is_late and not known[key].get("offer", {}).get("hold")
            look(key, **({"type": "lost", "reason": "the lease ended"} if is_lost else {}))
        if now() >= link["said"] + link["heartbeat_millis"]: beat()
        try: body and hear(json.loads(body))
        except (ValueError, KeyError, TypeError): channel.basic_reject(method.delivery_tag, requeue=False)
        else: body and channel.basic_ack(method.delivery_tag)  # not at a task's end: brokers close channels for that
finally:  # no process outlives us
    for attempt in known.values(): end(attempt.get("process"))
    say("goodbye")
