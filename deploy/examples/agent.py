# A small agent for Cairn: agent.py AMQP_URL ID. Needs pika 1.3. docs/protocol.md tells what is
# said here, and why.
#
# It has no journal: each start is a new life, and the coordinator tries again what the last one
# held. Every offer awaits its grant, so that there is one way to start. All that nobody has
# acknowledged is said again with each heartbeat, and a change brings the heartbeat forward. At
# the end of its lease, without its broker, or at a message that it cannot read, it ends, tasks and
# all: let something start it again. It keeps no task longer for its `hold`.
#
# Tasks are ended without being asked first, and with them what they left in their process group.
# Time-outs and drains are the coordinator's to see to. What tasks print goes where it prints.
import contextlib, functools, itertools, json, os, pika, subprocess, sys, time

(URL, ME), LIFE = sys.argv[1:], time.time_ns() // 1000  # the life rises with each start
QUEUE = {"x-queue-type": "classic", "x-max-length": 100_000, "x-max-length-bytes": 268_435_456,
    "x-overflow": "reject-publish", "x-dead-letter-exchange": "cairn.dead", "x-expires": 3_600_000}
# A task's input is a pipe of ours. When we close it, or are gone, the whole group is killed.
GUARD = 'exec 3<&0 </dev/null; ({ read end <&3; kill -9 0; } &) && cd "$0" && exec "$@" 3<&-'
SHELL = ["/bin/sh", "-c"]
JSON = pika.BasicProperties("application/json")
now = functools.partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)  # on while the machine sleeps

# What we were told last. The lease runs from the saying of the heartbeat that was answered last,
# which has that moment as its number. Before there is one, a grant may be of another time.
link = dict(lease_millis=0, heartbeat_millis=2_000)
# By name: the lowest epoch to obey, and by attempt the orders that came and what lives by them.
runs, told, said = {}, None, 0  # and what the last heartbeat told, and when


def say(kind, **members):  # it may be lost: all that matters is said again
    body = {"type": kind, "agent": ME, "incarnation": LIFE, **members}
    channel.basic_publish("cairn.reports", "cairn.coordinator", json.dumps(body), JSON)


def start(run, offer):
    names = (f"CAIRN_{name}" for name in "PROJECT RUN MILESTONE TASK ATTEMPT AGENT".split())
    values = run.rpartition(".")[0], run, *offer["name"].split("/"), str(offer["attempt"]), ME
    env = {**os.environ, **dict(offer["env"]), **dict(zip(names, values))}
    argv = offer["work"].get("argv") or [*SHELL, offer["work"]["script"]]
    argv = [*SHELL, GUARD, offer["working_dir"] or ".", *argv]
    return subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, start_new_session=True)


def live(run, orders):  # through an attempt: gives its state, each time that it is asked
    while not orders.keys() & {"grant", "stop"}:
        yield {"type": "accepted", "awaits_grant": True}
    outcome = {"type": "not_started" if "stop" in orders else "failed", "exit_code": 126}
    if "stop" not in orders:  # one that is too long for the system ends as in a shell
        with contextlib.suppress(OSError, ValueError), start(run, orders["offer"]) as process:
            while "stop" not in orders and process.poll() is None:
                yield {"type": "started"}
            how = "stopped" if "stop" in orders else "failed" if process.poll() else "completed"
            outcome = {"type": how, "exit_code": process.poll()}
    yield from itertools.repeat({"type": "finished", "outcome": outcome})


def hear(message):
    run = runs.setdefault(message.get("run"), {"epoch": 0, "orders": {}, "life": {}})
    epoch = message.get("epoch", 0)
    if epoch >= run["epoch"] and message.get("incarnation", LIFE) in (0, LIFE):
        run["epoch"] = epoch
        link.update(message)
        for order in message.get("orders", []):
            kind, key = order["type"], (order.get("task"), order.get("attempt"))
            if kind != "grant" or "sequence" in link:
                run["orders"].setdefault(key, {}).update({kind: order, "last": kind})
            if kind == "forget":
                run.update(epoch=epoch + 1, orders={}, lives={})


channel = pika.BlockingConnection(pika.URLParameters(URL)).channel()
name = channel.queue_declare(f"cairn.agent.{ME}", durable=True, arguments=QUEUE).method.queue
for _, _, body in channel.consume(name, auto_ack=True, exclusive=True, inactivity_timeout=0.05):
    if "sequence" in link and now() > link["sequence"] + 800_000 * link["lease_millis"]:
        sys.exit("the lease is over: from here on others may get what we hold")
    hear(json.loads(body or "{}"))
    holds = [{"run": run, "epoch": its["epoch"], "attempts": [  # what nobody has acknowledged
        {"task": key[0], "attempt": key[1], **next(its["life"].setdefault(key, live(run, orders)))}
        for key, orders in its["orders"].items()
        if orders.keys() & {"offer", "stop"} and orders["last"] != "acknowledge"]}
        for run, its in runs.items() if its["orders"]]
    if holds != told or now() > said + 1_000_000 * link["heartbeat_millis"]:
        told, said = holds, now()
        say("hello", slots=os.cpu_count(), labels=[["lang", "python"], ["os", sys.platform]])
        for run in holds:
            say("reports", run=run["run"], reports=run["attempts"])
        say("heartbeat", sequence=said, holds=holds)  # its answer tells from when the lease runs
