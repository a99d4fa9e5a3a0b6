#!/bin/sh
# Brings docker-compose.yml up on a real engine, submits files by grpcurl from
# another container, kills the receiver in the middle of one, compares digests,
# and takes everything down again.
#
#   make compose-test
#
# Nothing is pulled: golang:1.26, the base that the Dockerfile names, is made
# here from this machine's Go, the modules that go.mod names and a shell, and is
# imported under its public name. An image that had the name gets it back.
# What is built and takes long (the build cache, grpcurl) is kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/sluice/compose.
#
# Without an engine it says so and passes; with one, everything must work.
set -eu
cd "$(dirname "$0")/.."

if ! command -v docker >/dev/null || ! docker version >/dev/null 2>&1; then
	cat >&2 <<-END
		*****************************************************************
		compose-test: NOT TESTED. No Docker engine answers here, so
		docker-compose.yml and Dockerfile were not run. On Debian:
		apt-get install docker.io docker-compose
		*****************************************************************
	END
	exit 0
fi

# The legacy builder and docker-compose 1.29 are the oldest that must work.
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
project=sluicetest$$
base=golang:1.26 grpcurl=sluicetest$$-grpcurl
grpcurl_version=$(go -C "$(dirname "$0")/grpcurl" list -m -f "{{.Version}}" github.com/fullstorydev/grpcurl)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/compose
work=$(mktemp -d)

if command -v docker-compose >/dev/null; then
	tool=docker-compose
elif docker compose version >/dev/null 2>&1; then
	tool="docker compose"
else
	echo "compose-test: an engine answers, but neither docker-compose nor docker compose is here; on Debian: apt-get install docker-compose" >&2
	rm -rf "$work"
	exit 1
fi
compose() { $tool -p "$project" -f docker-compose.yml -f "$work/images.yml" --project-directory . "$@"; }
container() { compose ps -q "$1" | head -n 1; }

began=$(date +%s)
say() { printf '== %s s: %s\n' "$(($(date +%s) - began))" "$*"; }
fail() {
	echo "compose-test: $*" >&2
	exit 1
}

base_before=$(docker image inspect -f '{{.Id}}' "$base" 2>/dev/null || true)
base_id=

cleanup() {
	code=$?
	trap - EXIT
	set +e
	if [ "$code" != 0 ] && [ -f "$work/images.yml" ]; then
		compose ps >&2
		compose logs --tail 40 >&2
	fi
	if [ -f "$work/images.yml" ]; then
		compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1
	fi
	docker image rm "$project-receiver" "$project-sender" "$grpcurl" >/dev/null 2>&1
	if [ -n "$base_id" ]; then
		if [ -n "$base_before" ]; then
			docker tag "$base_before" "$base"
		else
			docker image rm "$base" >/dev/null 2>&1
		fi
		# The layers of the build stage have no name; the base is theirs alone.
		layer=$(docker image inspect -f '{{index .RootFS.Layers 0}}' "$base_id" 2>/dev/null)
		docker image ls -q --filter dangling=true | while read -r id; do
			[ "$(docker image inspect -f '{{index .RootFS.Layers 0}}' "$id" 2>/dev/null)" = "$layer" ] && docker image rm "$id"
		done >/dev/null 2>&1
		docker image rm "$base_id" >/dev/null 2>&1
	fi
	rm -rf "$work"
	exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# make_base imports the base image. Symbolic links stand for what is copied.
make_base() {
	root=$work/root goroot=$(go env GOROOT) modules=$(go env GOMODCACHE)/cache/download
	mkdir -p "$root/usr/local/go" "$root/root/.cache" "$root/bin" "$root/tmp" "$root/modules" "$cache/go-build"

	go mod download -json | sed -n 's/^\t"Zip": "\(.*\)",*$/\1/p' >"$work/zips"
	# The same build here fills the build cache: the second one takes seconds.
	GOFLAGS=-buildvcs=false GOCACHE=$cache/go-build CGO_ENABLED=0 \
		go build -trimpath -ldflags "-s -w" -o "$work/" ./services/sender ./services/receiver
	ln -s "$cache/go-build" "$root/root/.cache/go-build"
	for part in VERSION go.env bin lib pkg src; do
		ln -s "$goroot/$part" "$root/usr/local/go/$part"
	done
	for program in sh mkdir; do
		path=$(command -v $program)
		ln -s "$path" "$root/bin/$program"
		ldd "$path" | grep -o '/[^ ]*' >>"$work/libraries" || true
	done
	sort -u "$work/libraries" | while read -r library; do
		mkdir -p "$root/${library%/*}"
		ln -s "$library" "$root/$library"
	done
	{
		cat "$work/zips"
		find "$modules" \( -name '*.mod' -o -name '*.info' \)
	} | sed "s|^$modules/||" | tar -C "$modules" -cf "$work/modules.tar" -T -
	tar -C "$root/modules" -xf "$work/modules.tar"
	tar -C "$root" --dereference --exclude=testdata --exclude='*_test.go' -cf - . |
		docker import --change 'ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOCACHE=/root/.cache/go-build GOTOOLCHAIN=local GOPROXY=file:///modules GOSUMDB=off' - "$base"
}

# make_grpcurl imports an image with grpcurl alone.
make_grpcurl() {
	binary=$cache/grpcurl-$grpcurl_version-$(go env GOVERSION)
	if [ ! -x "$binary" ]; then
		GOBIN=$work/bin CGO_ENABLED=0 go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version"
		mv "$work/bin/grpcurl" "$binary"
	fi
	mkdir -p "$work/grpcurl/bin"
	cp "$binary" "$work/grpcurl/bin/grpcurl"
	tar -C "$work/grpcurl" -cf - . |
		docker import --change 'ENTRYPOINT ["/bin/grpcurl"]' --change 'USER 65532:65532' - "$grpcurl" >/dev/null
}

# call METHOD JSON calls the sender from a container of its own, with the token.
call() {
	docker run --rm --network "${project}_default" --volume "${project}_secrets:/secrets:ro" --env TOKEN "$grpcurl" \
		-cacert /secrets/ca.pem -expand-headers -H 'authorization: Bearer ${TOKEN}' \
		-d "$2" sender:7410 "sluice.v1.SenderService/$1"
}

field() { sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' | head -n 1; }

# healthy CONTAINER waits until the health check says so.
healthy() {
	tries=0
	until [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 120 ] || fail "not healthy: $(docker inspect -f '{{.Name}} {{json .State.Health}}' "$1")"
		sleep 1
	done
}

# wait_for JOB prints the job when it has ended.
wait_for() { call WaitTransfer "{\"job_id\": \"$1\", \"timeout\": \"240s\"}"; }

# arrived NAME compares what is in the inbox with what was put in the outbox.
arrived() {
	want=$(sha256sum <"$work/$1")
	got=$(docker cp "$receiver:/data/$1" - | tar -xOf - | sha256sum)
	[ "$want" = "$got" ] || fail "$1 arrived different: sent $want, have $got"
	say "$1 arrived equal, sha256 ${want%% *}"
}

if grep -nE -e '--no-|NO_TLS|NO_AUTH' docker-compose.yml; then
	fail "docker-compose.yml turns a protection off"
fi
cat >"$work/images.yml" <<END
version: "3.8"
services:
  certificates: {image: $project-receiver}
  tokens: {image: $project-receiver}
  receiver: {image: $project-receiver}
  sender: {image: $project-sender}
END

say "a base image from this machine's $(go env GOVERSION), as $base"
make_base >"$work/base"
base_id=$(tail -n 1 "$work/base")
say "grpcurl $grpcurl_version"
make_grpcurl
say "build"
compose build >"$work/build.log" 2>&1 || {
	cat "$work/build.log" >&2
	fail "the images do not build"
}
say "up"
compose up -d
receiver=$(container receiver) sender=$(container sender)
healthy "$receiver"
healthy "$sender"
for service in receiver sender; do
	is=$(docker inspect -f '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}' "$(container $service)")
	[ "$is" = "true 65532:65532" ] || fail "$service: read-only root and user are: $is"
done
say "healthy"

TOKEN=$(docker cp "$sender:/secrets/pipeline.token" - | tar -xOf -)
export TOKEN

say "without a token nothing is submitted"
if TOKEN=wrong call SubmitTransfer '{"sources": [{"path": "/outbox/x"}], "receiver": "receiver"}' >"$work/denied" 2>&1; then
	fail "a call with a wrong token was answered: $(cat "$work/denied")"
fi
grep -q Unauthenticated "$work/denied" || fail "a wrong token: want Unauthenticated, have $(cat "$work/denied")"

say "a file of 5 MB"
head -c 5000000 /dev/urandom >"$work/small.bin"
chmod 644 "$work/small.bin"
docker cp "$work/small.bin" "$sender:/outbox/" >/dev/null
call SubmitTransfer '{"sources": [{"path": "/outbox/small.bin"}], "receiver": "receiver", "request_id": "small"}' >"$work/job"
wait_for "$(field id <"$work/job")" >"$work/job"
[ "$(field state <"$work/job")" = JOB_STATE_SUCCEEDED ] || fail "the job ended so: $(cat "$work/job")"
arrived small.bin

say "a file of 200 MB; the receiver is killed in the middle of it"
head -c 200000000 /dev/urandom >"$work/large.bin"
chmod 644 "$work/large.bin"
docker cp "$work/large.bin" "$sender:/outbox/" >/dev/null
call SubmitTransfer '{"sources": [{"path": "/outbox/large.bin"}], "receiver": "receiver", "options": {"rate_limit": 10000000}}' >"$work/job"
job=$(field id <"$work/job")
tries=0
until call GetTransfer "{\"job_id\": \"$job\"}" >"$work/job" && [ "$(field bytesAcked <"$work/job")" -gt 20000000 ] 2>/dev/null; do
	tries=$((tries + 1))
	[ "$tries" -lt 60 ] || fail "the transfer does not go on: $(cat "$work/job")"
done
docker kill "$receiver" >/dev/null
acked=$(field bytesAcked <"$work/job")
if docker cp "$receiver:/data/large.bin" - >/dev/null 2>&1; then
	fail "large.bin was published before the receiver was killed"
fi
say "killed after $acked octets or more; started again"
docker start "$receiver" >/dev/null
healthy "$receiver"
wait_for "$job" >"$work/job"
[ "$(field state <"$work/job")" = JOB_STATE_SUCCEEDED ] || fail "the job ended so: $(cat "$work/job")"
arrived large.bin

say "the sender's own command sees both jobs"
compose exec -T sender /sender jobs list --token-file /secrets/pipeline.token >"$work/list"
[ "$(grep -c succeeded "$work/list")" = 2 ] || fail "the list of jobs is: $(cat "$work/list")"

say "stopped gracefully"
compose stop >/dev/null 2>&1
for id in "$receiver" "$sender"; do
	is=$(docker inspect -f '{{.State.ExitCode}}' "$id")
	[ "$is" = 0 ] || fail "$(docker inspect -f '{{.Name}}' "$id") ended with code $is"
done
say "passed"
