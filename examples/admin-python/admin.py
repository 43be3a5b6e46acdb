#!/usr/bin/env python3
"""Creates a task, waits for it, and prints the outcome of every server.

usage: admin.py TYPE IDENTIFIER PAYLOAD ENDPOINT...
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ.get("TASKER_URL", "http://127.0.0.1:8888")
TOKEN = os.environ.get("TASKER_TOKEN", "")


def call(method, path, body=None):
    """Returns the decoded answer, or exits with the API's error message."""
    headers = {"Content-Type": "application/json"}
    if TOKEN:
        headers["Authorization"] = "Bearer " + TOKEN
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['title']}: {problem.get('detail', '')}")


def main(task_type, identifier, payload, *endpoints):
    # A repeated request with the same identifier creates no second task, so it is safe to
    # run this program again after an error.
    task = call("POST", f"/{task_type}", {
        "identifier": identifier, "payload": json.loads(payload), "endpoints": endpoints,
    })
    while True:
        state = call("GET", f"/{task_type}/{task['id']}")
        if state["task"]["finished_at"]:
            break
        time.sleep(0.5)
    for response in state["responses"]:
        text = response["error"] or response["reason"] or json.dumps(response["result"])
        print(response["endpoint"], response["status"], text)
    if state["task"]["status"] != "succeeded":
        sys.exit(f"the task is {state['task']['status']}")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
