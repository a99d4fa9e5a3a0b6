#!/bin/sh
# Fails when something that the tests use is missing, naming every missing
# thing and its Debian package at once.
#
#   tools/need.sh COMMAND:PACKAGE… python:MODULE:PACKAGE… root
set -eu

missing= packages=
for need in "$@"; do
	case $need in
	root)
		if [ "$(id -u)" != 0 ]; then
			echo "need.sh: these tests need root: run them as root, on a machine where that is safe" >&2
			exit 1
		fi
		continue
		;;
	python:*)
		name=${need#python:} package=${need##*:}
		name=${name%%:*}
		/usr/bin/python3 -c "import $name" >/dev/null 2>&1 && continue
		name="Python's $name"
		;;
	*)
		name=${need%%:*} package=${need#*:}
		command -v "$name" >/dev/null 2>&1 && continue
		;;
	esac
	missing="$missing, $name"
	packages="$packages $package"
done
if [ -n "$missing" ]; then
	echo "need.sh: missing: ${missing#, }. On Debian: apt-get install$packages" >&2
	exit 1
fi
