#!/bin/sh
# Creates a task, waits for it, and prints the outcome of every server.
#
#   admin.sh TYPE IDENTIFIER PAYLOAD ENDPOINT...
#
# It needs curl and jq.
set -eu

url=${TASKER_URL:-http://127.0.0.1:8888}
[ $# -ge 4 ] || { sed -n '2,4s/^# *//p' "$0" >&2; exit 2; }

# call METHOD PATH [BODY]
call() {
	curl --silent --show-error --fail-with-body --max-time 30 --request "$1" "$url$2" \
		--header "Authorization: Bearer ${TASKER_TOKEN:-}" \
		--header 'Content-Type: application/json' ${3:+--data "$3"}
}

type=$1 identifier=$2 payload=$3
shift 3
request=$(jq --null-input --arg identifier "$identifier" --argjson payload "$payload" \
	'{identifier: $identifier, payload: $payload, endpoints: $ARGS.positional}' --args "$@")

# A repeated request with the same identifier creates no second task, so it is safe to run
# this script again after an error.
id=$(call POST "/$type" "$request" | jq --raw-output .id)

# The stream of events ends when the task has finished. If it breaks, the loop opens it again.
until call GET "/$type/$id" | jq --exit-status '.task.finished_at' >/dev/null; do
	curl --silent --no-buffer --max-time 60 --output /dev/null "$url/$type/$id/events" \
		--header "Authorization: Bearer ${TASKER_TOKEN:-}" || sleep 1
done

state=$(call GET "/$type/$id")
printf '%s\n' "$state" | jq --raw-output \
	'.responses[] | "\(.endpoint) \(.status) \(if .error != "" then .error elif .reason != "" then .reason else .result end)"'
[ "$(printf '%s\n' "$state" | jq --raw-output .task.status)" = succeeded ]
