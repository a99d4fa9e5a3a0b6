#!/bin/sh
# Prints -race where the race detector can be built: it needs cgo, a C
# compiler and the C library's headers. Prints nothing elsewhere.
if CGO_ENABLED=1 go build -race runtime/cgo >/dev/null 2>&1; then
	echo -race
fi
