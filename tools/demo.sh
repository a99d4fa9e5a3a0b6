#!/bin/sh
# Shows the whole way once: builds both commands, starts a receiver on the
# embedded defaults (ports of its own, a directory of its own), sends a large
# file and then a tree of about 10,000 files from the Go toolchain, prints the
# receipts, compares what arrived by other tools, and removes everything.
#
#   make demo
#
# Needs Go, git, make and POSIX tools; about 1 GB in ${TMPDIR:-/tmp}.
set -eu
cd "$(dirname "$0")/.."

work= pid=
cleanup() {
	code=$?
	trap - EXIT
	if [ -n "$pid" ]; then
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	fi
	if [ "$code" != 0 ] && [ -n "$work" ] && [ -s "$work/receiver.log" ]; then
		echo "demo: the receiver's log:" >&2
		tail -n 20 "$work/receiver.log" >&2
	fi
	[ -z "$work" ] || rm -rf "$work"
	exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n# %s\n' "$*"; }
run() {
	printf '$ %s\n' "$*"
	"$@"
}

# digest FILE prints its SHA-256, by whichever tool this system has.
digest() {
	if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

work=$(mktemp -d)
export XDG_STATE_HOME="$work/state"
# The embedded defaults, whatever this shell has set for services of its own.
for name in $(env | sed -n 's/^\(SLUICE_[A-Z_]*\)=.*/\1/p'); do
	unset "$name"
done

say "a receiver on the defaults, with free ports"
bin/receiver serve --dir "$work/inbox" --listen 127.0.0.1:0 --data-listen 127.0.0.1:0 \
	--ping-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --json >"$work/serving" 2>"$work/receiver.log" &
pid=$!
tries=0
until to=$(sed -n 's/.*"control":"\([^"]*\)".*/\1/p' "$work/serving") && [ -n "$to" ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 30 ] || ! kill -0 "$pid" 2>/dev/null; then
		echo "demo: the receiver did not start" >&2
		exit 1
	fi
	sleep 1
done
cat "$work/serving"

goroot=$(go env GOROOT)
file=$goroot/bin/go
[ -f "$file" ] || file=$file.exe
tree=$goroot/src

say "one large file: Go's own command"
run bin/sender send "$file" --to "$to"
want=$(digest "$file")
got=$(digest "$work/inbox/${file##*/}")
echo "sha256 of the source:   $want"
echo "sha256 at the receiver: $got"
if [ "$want" != "$got" ]; then
	echo "demo: the file that arrived differs" >&2
	exit 1
fi

say "a tree: the Go source, $(find "$tree/" -type f | wc -l | tr -d ' ') files"
run bin/sender send "$tree" --links skip --to "$to"
run diff -r "$tree/" "$work/inbox/${tree##*/}/"

say "what the receiver knows of them"
run bin/receiver transfers list --at "$to"

echo
echo "demo: the file and $(find "$work/inbox/${tree##*/}" -type f | wc -l | tr -d ' ') files of the tree arrived equal"
