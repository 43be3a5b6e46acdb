# The hold of the packages in $1 is released. After a success the packages in $2 are held,
# after a failure those in $3. Each other argument is a dnf command.
release=$1 hold=$2 restore=$3
shift 3

# shellcheck disable=SC2086 # they are lists of names
lock() { if [ -n "$2" ]; then dnf -y -q versionlock "$1" $2; fi; }

lock delete "$release"
code=0
for step; do
	# shellcheck disable=SC2086
	dnf -y --cacheonly $step || { code=$? && break; }
done
if [ "$code" = 0 ]; then lock add "$hold"; else lock add "$restore" || true; fi
exit "$code"
