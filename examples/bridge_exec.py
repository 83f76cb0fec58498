#!/usr/bin/env python3
"""A bridge of one's own: writes events to a CSV file, each once. Usage, in master.yml:
bridges: [{name: own, type: exec, command: [/path/to/bridge_exec.py, /var/log/doors.csv]}]
Reads an event a line, and prints its number when it is on the disk; then it never comes again."""
import csv, fcntl, json, os, sys

with open(sys.argv[1], "a+", newline="") as file:
    fcntl.flock(file, fcntl.LOCK_EX)  # the one before, if its master was killed, reads to its end first
    file.seek(0)
    seen = {row[0] for row in csv.reader(file) if row}  # what came and was not acknowledged comes again
    for line in sys.stdin:
        event = json.loads(line)
        if event["id"] not in seen:
            seen.add(event["id"])
            csv.writer(file).writerow([event["id"], event["ts"], event["tag"], json.dumps(event["data"])])
            file.flush()
            os.fsync(file.fileno())
        print(event["seq"], flush=True)
