#!/usr/bin/env python3
"""Print the master's events, one line of JSON each. Usage: subscribe.py SOCKET [TAG-PREFIX]
e.g. subscribe.py /run/drover/master/events.ipc drover/beacon/      (pip install pyzmq msgpack)"""
import json, sys
import msgpack, zmq

bus = zmq.Context.instance().socket(zmq.SUB)
bus.connect("ipc://" + sys.argv[1])
bus.subscribe(sys.argv[2] if len(sys.argv) > 2 else "")
while True:
    tag, event = bus.recv_multipart()
    print(tag.decode(), json.dumps(msgpack.unpackb(event)), flush=True)
