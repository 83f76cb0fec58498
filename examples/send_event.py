#!/usr/bin/env python3
"""Send an event through this device's minion. Usage: send_event.py SOCKET TAG [JSON]
e.g. send_event.py /run/drover/minion/events.ipc door/open '{"badge": 4711}'
It arrives as drover/app/<id>/door/open, also when the master is away now. (pip install pyzmq msgpack)"""
import json, sys
import msgpack, zmq

context = zmq.Context()
bus = context.socket(zmq.PUSH)
bus.setsockopt(zmq.LINGER, 5000)  # wait so many milliseconds for the minion to take it
bus.connect("ipc://" + sys.argv[1])
bus.send_multipart([sys.argv[2].encode(), msgpack.packb(json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))])
bus.close()
context.term()  # an interpreter that just ends waits for nothing
