# $1 is held no more meanwhile, $2 is held when all went well, $3 when it did not; each
# of the rest is a command of dnf.
release=$1 hold=$2 held=$3
shift 3

# shellcheck disable=SC2086 # they are lists of names
lock() { if [ -n "$2" ]; then dnf -y -q versionlock "$1" $2; fi; }

lock delete "$release"
code=0
for step; do
	# shellcheck disable=SC2086
	dnf -y --cacheonly $step || { code=$? && break; }
done
if [ "$code" = 0 ]; then lock add "$hold"; else lock add "$held" || true; fi
exit "$code"
