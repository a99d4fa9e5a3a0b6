#!/bin/sh
# Prints the path of a pinned build tool, building it first where it is not
# cached. The version is the one in the tool's own module, tools/NAME/go.mod.
#
#   tools/tool.sh buf|golangci-lint|gofumpt|grpcurl
#
# The cache is ${XDG_CACHE_HOME:-$HOME/.cache}/sluice/tools; a file's name has
# the versions of the tool and of Go, so that a change of either builds anew.
set -eu
cd "$(dirname "$0")/.."

case $1 in
buf) dir=tools/buf module=github.com/bufbuild/buf package=$module/cmd/buf time="four minutes" ;;
golangci-lint) dir=tools/lint module=github.com/golangci/golangci-lint/v2 package=$module/cmd/golangci-lint time="two minutes" ;;
gofumpt) dir=tools/fumpt module=mvdan.cc/gofumpt package=$module time="a few seconds" ;;
grpcurl) dir=tools/grpcurl module=github.com/fullstorydev/grpcurl package=$module/cmd/grpcurl time="a minute" ;;
*)
	echo "tool.sh: no tool named $1: buf, golangci-lint, gofumpt and grpcurl are known" >&2
	exit 2
	;;
esac

version=$(go -C $dir list -m -f '{{.Version}}' $module)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/tools
binary=$cache/$1-$version-$(go env GOVERSION)
if [ ! -x "$binary" ]; then
	echo "building $1 $version, once; on two cores this takes about $time" >&2
	mkdir -p "$cache"
	# GOOS and GOARCH of a cross build must not reach the tools.
	env -u GOOS -u GOARCH go -C $dir build -trimpath -o "$binary.$$" $package
	mv "$binary.$$" "$binary"
fi
echo "$binary"
