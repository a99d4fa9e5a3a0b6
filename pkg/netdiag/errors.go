package netdiag

import (
	"errors"
	"fmt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ErrUnsupported is in the chain of errors about things that this operating
// system does not tell.
var ErrUnsupported = errors.ErrUnsupported

// failure returns an error whose message is the formatted one.
func failure(kind transfer.Kind, cause error, format string, args ...any) *transfer.Error {
	return &transfer.Error{Kind: kind, Msg: fmt.Sprintf(format, args...), Err: cause}
}
