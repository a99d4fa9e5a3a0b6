package recv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	gateTimeout = time.Minute
	gateOutput  = 4096 // octets of output that are kept
	gateWait    = time.Second
)

// Command runs a program before or after publishing. Its methods fit
// Config.OnVerified and Config.OnPublished. The program is started without a
// shell, with the environment of this process and
//
//	SLUICE_EVENT         verified or published
//	SLUICE_TRANSFER_ID   the transfer's id
//	SLUICE_PRINCIPAL     who sent it
//	SLUICE_PATH          the file, below the receiver's root (published: the final
//	                     name of the only file, else the directory)
//	SLUICE_STAGED        verified: where its octets are now; read, never change
//	SLUICE_DIGEST        as in the receipt, such as blake3:…; empty for many files
//	SLUICE_SIZE          in octets
//
// Verified runs it once for each file: exit code 0 lets the file pass, any other
// refuses the transfer with the output as the reason. Published runs it once for
// each transfer, with the receipt as JSON on standard input; its exit code is only
// logged.
type Command struct {
	Argv    []string      // program and arguments
	Timeout time.Duration // of one run; then it is killed; 0: 1 min
	Logger  *slog.Logger  // nil: discards
}

// Verified is a gate, see Config.OnVerified. A program that cannot be started, is
// killed or runs out of time is no refusal.
func (c *Command) Verified(ctx context.Context, v *Verified) error {
	for f, err := range v.Files() {
		if err != nil {
			return err
		}
		out, err := c.run(ctx, nil, "verified", v.ID, v.Principal, below(v.Options.Into, string(f.Path)), f.Staged, f.Digest.String(), f.Size)
		var exit *exec.ExitError
		switch {
		case err == nil:
		case errors.As(err, &exit) && exit.Exited():
			if out == "" {
				out = fmt.Sprintf("the gate ended with code %d", exit.ExitCode())
			}
			return transfer.Errorf(transfer.Denied, "check file", string(f.Path), "%s", out)
		default:
			return transfer.Errorf(transfer.Unavailable, "run gate for", string(f.Path), "%w", err)
		}
	}
	return nil
}

// Published is a hook, see Config.OnPublished.
func (c *Command) Published(ctx context.Context, r *transfer.Receipt) {
	name, digest := r.Into, ""
	if r.FileCount == 1 && len(r.Files) == 1 {
		f := &r.Files[0]
		if name, digest = f.Published, f.Digest.String(); name == "" {
			name = below(r.Into, f.Path)
		}
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b, err := json.Marshal(r)
	var out string
	if err == nil {
		out, err = c.run(ctx, b, "published", r.ID, r.Principal, name, "", digest, r.Bytes)
	}
	if err != nil {
		log.Warn("command after publishing failed", "transfer", r.ID, "command", c.Argv[0], "err", err, "output", out)
	}
}

func below(into, path string) string {
	if into == "" {
		return path
	}
	return into + "/" + path
}

func (c *Command) run(ctx context.Context, stdin []byte, event string, id transfer.ID, principal, path, staged, digest string, size int64) (string, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = gateTimeout
	}
	if len(c.Argv) == 0 {
		return "", transfer.Errorf(transfer.Invalid, "run command", "", "none was given")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, transfer.Errorf(transfer.Unavailable, "run command", "", "%s ran longer than %v", c.Argv[0], timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...) //nolint:gosec // the operator's own command
	cmd.WaitDelay = gateWait
	cmd.Env = append(os.Environ(), "SLUICE_EVENT="+event, "SLUICE_TRANSFER_ID="+id.String(), "SLUICE_PRINCIPAL="+principal, "SLUICE_PATH="+path,
		"SLUICE_STAGED="+staged, "SLUICE_DIGEST="+digest, "SLUICE_SIZE="+strconv.FormatInt(size, 10))
	cmd.Stdin = bytes.NewReader(stdin)
	var out bounded
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return clean(out.String()), err
}

// bounded keeps the first octets and swallows the rest.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	_, _ = b.Builder.Write(p[:min(len(p), gateOutput-b.Len())])
	return len(p), nil
}
