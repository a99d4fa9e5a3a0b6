package plain

import (
	"errors"
	"fmt"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Answers of a receiver. Clients in the field compare answerOK byte for byte.
const (
	answerOK    = "ok"
	answerError = "error: "
)

var (
	errStopping    = errors.New("the receiver is stopping")
	errEvicted     = errors.New("too many connections")
	errGone        = errors.New("nothing was sent")
	errClosedEarly = errors.New("closed early")
	errSilent      = errors.New("no answer in time")
)

// failure returns an error whose message is the formatted one. The cause goes
// to logs and to people at this side, never over the wire.
func failure(kind transfer.Kind, cause error, format string, args ...any) *transfer.Error {
	return &transfer.Error{Kind: kind, Msg: fmt.Sprintf(format, args...), Err: cause}
}

// publicText is what the far side may read about err: the message and the hint
// of the outermost transfer.Error that has a message, never a cause, which may
// name paths of this machine.
func publicText(err error) string {
	kind := transfer.Internal
	for {
		e, ok := errors.AsType[*transfer.Error](err)
		switch {
		case !ok && kind != transfer.Internal:
			return kind.String()
		case !ok:
			return "internal error; the receiver's log says more"
		case e.Msg != "" && e.Hint != "":
			return e.Msg + "; " + e.Hint
		case e.Msg != "":
			return e.Msg
		}
		kind, err = e.Kind, e.Err
	}
}

// checkName accepts a bare file name that the path grammar accepts.
func checkName(name string, names transfer.Names) error {
	if strings.Contains(name, "/") {
		return failure(transfer.Invalid, nil, "the name has a path").WithHint("send the bare file name")
	}
	if _, err := transfer.ParsePath(name, names); err != nil {
		return err
	}
	return nil
}
