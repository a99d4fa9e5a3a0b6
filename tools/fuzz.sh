#!/bin/sh
# Fuzzes every target of the module in turn, each for the time given (30s).
#
#   tools/fuzz.sh [TIME]
set -eu
cd "$(dirname "$0")/.."

time=${1:-30s}
count=0
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
	package=./$(dirname "$file")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "== $package $target, $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
		count=$((count + 1))
	done
done
if [ $count = 0 ]; then
	echo "fuzz.sh: the module has no fuzz target" >&2
	exit 1
fi
echo "fuzz: $count targets, $time each, nothing found"
