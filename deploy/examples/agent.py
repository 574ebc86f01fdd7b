"""A small agent for Cairn; docs/protocol.md tells what it says, and why. Usage: agent.py [AMQP_URL [ID]]. Needs pika.

It has no journal: each start is a new life, and the coordinator tries again what the last one held. Time-outs it leaves
to the coordinator, timers to other agents, the output of its tasks to whoever reads its own; and when the broker is gone
it ends, tasks and all: let something start it again."""
import json, os, signal, subprocess, sys, time, uuid, pika

URL = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CAIRN_TRANSPORT", "amqp://localhost")
ME = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("CAIRN_AGENT", "python-1")
LIFE, QUEUE = time.time_ns() // 1000, f"cairn.agent.{ME}"  # LIFE is the incarnation: it rises with each start
ARGUMENTS = {"x-queue-type": "classic", "x-max-length": 100_000, "x-max-length-bytes": 268_435_456,
             "x-overflow": "reject-publish", "x-dead-letter-exchange": "cairn.dead", "x-expires": 3_600_000}
held, settled, epochs = {}, set(), {}  # attempts by (run, task, attempt); those acknowledged; the epoch of each run
lease = {"lease_millis": float("inf"), "heartbeat_millis": 2_000}  # the terms that a welcome sets
asked, said, heard, welcome = 0, 0, 0, False  # when we: first said hello, last spoke, sent the newest answered heartbeat

def now(): return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # goes on while the machine sleeps
def micros(): return time.time_ns() // 1000

def say(kind, **members):  # whether it arrives does not matter: all that does is said again
    body = json.dumps({"protocol": 1, "type": kind, "agent": ME, "incarnation": LIFE, **members})
    about = pika.BasicProperties("application/json", message_id=str(uuid.uuid4()), type=kind, delivery_mode=2)
    channel.basic_publish("", "cairn.coordinator", body, about)

def tell(key, kind=None, **members):  # an attempt's new state, or its present one again
    if kind: held[key]["state"] = {"type": kind, "task": key[1], "attempt": key[2], **members}
    held[key]["told"] = now()
    say("reports", run=key[0], reports=[held[key]["state"]])

def finish(key, **outcome):
    since = held[key].setdefault("since", micros())
    tell(key, "finished", outcome=outcome, started_micros=since, finished_micros=micros())

def start(key, offer):
    milestone, task = offer["name"].split("/")
    env = {**os.environ, **dict(offer["env"]), "CAIRN_RUN": key[0], "CAIRN_PROJECT": key[0].rsplit(".", 1)[0],
           "CAIRN_MILESTONE": milestone, "CAIRN_TASK": task, "CAIRN_ATTEMPT": str(key[2]), "CAIRN_AGENT": ME}
    try:  # in a process group of its own, so that all of it can be ended
        argv = offer["work"].get("argv") or ["/bin/sh", "-c", offer["work"]["script"]]
        held[key].update(since=micros(), process=subprocess.Popen(
            argv, env=env, cwd=offer["working_dir"] or ".", stdin=subprocess.DEVNULL, start_new_session=True))
        tell(key, "started", at_micros=held[key]["since"])
    except (OSError, ValueError, KeyError) as error:
        finish(key, type="failed", kind="start_failed", message=repr(error))

def look(key, **why):  # has it ended? With `why` it is to end, with that outcome
    process, state = held[key].get("process"), held[key].get("state", {}).get("type")
    if state == "finished" or (state == "accepted" and not why):
        if now() > held[key]["told"] + 5_000: tell(key)  # nobody has answered
    elif process is None: finish(key, type="not_started")
    elif (code := process.poll()) == 0: finish(key, type="completed")
    elif code is not None:
        how = {"kind": "exit_code", "exit_code": code} if code > 0 else {"kind": "signal"}
        finish(key, type="failed", message=f"it ended with {code}", **how)
    elif why:
        os.killpg(process.pid, signal.SIGKILL)  # SIGTERM first, and this after 5 s, would be kinder
        process.wait()
        finish(key, **why)

def obey(run, order):
    key = (run, order.get("task"), order.get("attempt"))
    state = held.get(key, {}).get("state", {}).get("type")
    if order["type"] == "offer" and key not in held and key not in settled:
        held[key] = {"offer": order}
        tell(key, "accepted", awaits_grant=order["needs_grant"])
        if not order["needs_grant"]: start(key, order)
    elif order["type"] == "offer" and key in held: tell(key)  # it came twice: it is not run twice
    elif order["type"] == "grant" and state == "accepted": start(key, held[key]["offer"])
    elif order["type"] == "acknowledge" and state == "finished": held.pop(key), settled.add(key)
    elif order["type"] == "stop" and key not in settled:
        held.setdefault(key, {})  # also one that we have not heard of: should it come yet, it must not start
        look(key, type="stopped")
    elif order["type"] == "recall": [tell(key) for key in held if key[0] == run]
    elif order["type"] == "forget":
        for key in [key for key in held if key[0] == run]: look(key, type="stopped"), held.pop(key)
        settled.difference_update([key for key in settled if key[0] == run])

def hear(message):
    global asked, heard, welcome
    if message.get("incarnation", 0) not in (0, LIFE): return  # for a life that is over
    if message["type"] == "introduce": asked, welcome = 0, False
    elif message["type"] == "welcome":
        lease.update({name: message[name] for name in lease})
        heard, welcome = max(heard, asked), True
    elif message["type"] == "heartbeat_heard": heard = max(heard, message["sequence"])
    elif message["type"] == "orders" and message["epoch"] >= epochs.get(message["run"], 0):
        epochs[message["run"]] = message["epoch"]
        for order in message["orders"]: obey(message["run"], order)

def beat():  # a heartbeat's sequence is the time at which it was sent, so its answer says from when the lease runs
    global asked, said
    said = now()
    if not welcome:
        asked = asked or said
        return say("hello", protocols=[1, 1], version="agent.py 1", content_type="application/json",
                   slots=os.cpu_count(), labels=[["lang", "python"], ["os", sys.platform]])
    runs = {run: [{"task": key[1], "attempt": key[2]} for key in sorted(held) if key[0] == run] for run in epochs}
    holds = [{"run": run, "epoch": epochs[run], "attempts": attempts} for run, attempts in runs.items() if attempts]
    say("heartbeat", sequence=said, draining=False, holds=holds)

channel = pika.BlockingConnection(pika.URLParameters(URL)).channel()
channel.queue_declare(QUEUE, durable=True, arguments=ARGUMENTS)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    for method, _, body in channel.consume(QUEUE, exclusive=True, inactivity_timeout=0.05):
        if now() > heard + 0.8 * lease["lease_millis"]:  # from here on others may get what we hold
            for key in held: held[key].get("offer", {}).get("hold") or look(key, type="lost", reason="the lease ended")
        for key in held: look(key)
        if now() >= said + lease["heartbeat_millis"]: beat()
        if not body: continue
        try: hear(json.loads(body))
        except (ValueError, KeyError, TypeError): channel.basic_reject(method.delivery_tag, requeue=False)
        else: channel.basic_ack(method.delivery_tag)  # not at a task's end: brokers close channels for that
finally:  # no process outlives us
    for one in held.values():
        if "process" in one and one["process"].poll() is None: os.killpg(one["process"].pid, signal.SIGKILL)
    say("goodbye")
