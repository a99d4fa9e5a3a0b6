#!/bin/sh
# Runs every check of `make lint`, says how long each took, and fails at the
# end if any did.
set -u
cd "$(dirname "$0")/.." || exit 1

tags=root,interop,compose
modules=". tools/wanlink"
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND…
check() {
	name=$1
	shift
	start=$(date +%s)
	if "$@" >"$temp/out" 2>&1; then
		echo "ok    $name, $(($(date +%s) - start)) s"
	else
		echo "FAIL  $name, $(($(date +%s) - start)) s"
		failed="$failed, $name"
	fi
	sed 's/^/      /' "$temp/out"
}

formatted() {
	files=$("$gofumpt" -l .) || return 1
	[ -z "$files" ] || {
		echo "not formatted; run $gofumpt -w on:"
		echo "$files"
		return 1
	}
}

linted() {
	for module in $modules; do
		(cd "$module" && "$golangci" run --config "$OLDPWD/.golangci.yml" ./...) || return 1
	done
}

vetted() {
	for module in $modules; do
		GOOS=$1 go -C "$module" vet -tags $tags ./... || return 1
	done
}

# Compares the protos with those of the main branch. The base is taken from
# the object store, so that a detached HEAD, a shallow clone and a work tree
# all do. A first commit, or a clone without any main, has nothing to compare.
unbroken() {
	for base in refs/remotes/origin/main refs/heads/main; do
		git rev-parse --quiet --verify "$base^{commit}" >/dev/null && break
		base=
	done
	if [ -z "$base" ] || ! git cat-file -e "$base:proto" 2>/dev/null || ! git cat-file -e "$base:buf.yaml" 2>/dev/null; then
		echo "nothing to compare: ${base:-no main branch here}${base:+ has no protos yet}"
		return 0
	fi
	git archive --format=tar -o "$temp/base.tar" "$base" buf.yaml proto &&
		"$buf" breaking --against "$temp/base.tar"
}

# Generates anew beside the checkout and compares.
generated() {
	"$buf" generate -o "$temp" || return 1
	(cd proto && find sluice -name '*.pb.go' | sort) >"$temp/here"
	(cd "$temp/proto" && find sluice -name '*.pb.go' | sort) >"$temp/there"
	diff -u "$temp/here" "$temp/there" || return 1
	while read -r file; do
		diff -u "proto/$file" "$temp/proto/$file" | head -n 40
		cmp -s "proto/$file" "$temp/proto/$file" || {
			echo "proto/$file is not what the protos say: run make generate"
			return 1
		}
	done <"$temp/here"
}

buf=$(tools/tool.sh buf) && golangci=$(tools/tool.sh golangci-lint) && gofumpt=$(tools/tool.sh gofumpt) || exit 1
failed=
check "gofumpt" formatted
check "go vet, linux" vetted linux
check "go vet, darwin" vetted darwin
check "go vet, windows" vetted windows
check "golangci-lint" linted
check "buf lint" "$buf" lint
check "buf breaking" unbroken
check "generated code is current" generated
if [ -n "$failed" ]; then
	echo "lint: failed: ${failed#, }" >&2
	exit 1
fi
