//go:build !linux

package health

import (
	"math"
	"net"
)

// canBatch says that many datagrams cannot be read with one system call here.
const canBatch = false

// alwaysBatch as a reflector's busy has no effect here.
const alwaysBatch = -math.MaxFloat64

// batch is not used: canBatch.
type batch struct{}

func newBatch(*net.UDPConn) *batch { return &batch{} }

func (*batch) serve(*Reflector, *readFailures, uint16) (again bool, result error) { return true, nil }
