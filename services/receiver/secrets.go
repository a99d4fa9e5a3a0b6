package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// certCmd makes a development CA and certificates.
type certCmd struct {
	Dir     string        `arg:"" help:"Directory for ca.pem, server.pem, NAME.pem and their keys." type:"path"`
	Host    []string      `help:"Names and addresses of the server's certificate." default:"localhost,127.0.0.1,::1"`
	Server  string        `help:"Name of the server's files." default:"server"`
	Client  []string      `help:"Principals to make client certificates for." placeholder:"NAME"`
	For     time.Duration `name:"valid-for" help:"How long certificates are valid; 0: the default." default:"0s"`
	Replace bool          `help:"Replace certificates that are there (the CA is always kept)."`
}

// Help shows examples in the help text.
func (certCmd) Help() string {
	return `Makes what is missing and keeps what is there, so it can run at every start.

  receiver cert ./secrets --host files.example --client ci
  receiver serve --listen :7400 --client-ca secrets/ca.pem \
    --tls-cert secrets/server.pem --tls-key secrets/server-key.pem
  sender send x.tar --to files.example:7400 --tls-ca secrets/ca.pem \
    --tls-cert secrets/ci.pem --tls-key secrets/ci-key.pem`
}

func (c *certCmd) run(a *app) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	caCert, caKey := c.files("ca")
	ca, err := auth.LoadCA(caCert, caKey, time.Now)
	if _, serr := os.Stat(caKey); errors.Is(serr, fs.ErrNotExist) {
		if ca, err = auth.GenerateCA("Sluice development CA", 0, time.Now); err == nil {
			err = ca.Pair().Write(caCert, caKey, false)
			fmt.Fprintln(a.stdout, caCert)
		}
	}
	if err != nil {
		return err
	}
	if err := c.write(a, c.Server, func() (auth.Pair, error) { return ca.IssueServer(c.Host, c.For) }); err != nil {
		return err
	}
	for _, name := range c.Client {
		p, err := auth.ParsePrincipal(name)
		if err != nil {
			return &cli.Usage{Err: err}
		}
		if err := c.write(a, fileName(name), func() (auth.Pair, error) { return ca.IssueClient(p, c.For) }); err != nil {
			return err
		}
	}
	return nil
}

// fileName turns a principal, which may be a URI, into the name of a file.
func fileName(principal string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:`, r) {
			return '_'
		}
		return r
	}, principal)
}

func (c *certCmd) files(name string) (cert, key string) {
	return filepath.Join(c.Dir, name+".pem"), filepath.Join(c.Dir, name+"-key.pem")
}

func (c *certCmd) write(a *app, name string, issue func() (auth.Pair, error)) error {
	cert, key := c.files(name)
	if _, err := os.Stat(cert); err == nil && !c.Replace {
		return nil
	}
	pair, err := issue()
	if err != nil {
		return err
	}
	if err := pair.Write(cert, key, c.Replace); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, cert)
	return err
}

// tokenCmd makes a bearer token.
type tokenCmd struct {
	Principal string        `arg:"" help:"Who the token stands for."`
	Tokens    string        `help:"Token file that the hash is added to." required:"" type:"path" placeholder:"FILE" env:"SLUICE_TOKENS"`
	Out       string        `help:"File for the secret (mode 0600); default: standard output." type:"path" placeholder:"FILE"`
	Expires   time.Duration `help:"How long the token is good; 0: for ever." default:"0s"`
	IfMissing bool          `help:"Do nothing when --out is there already."`
}

// Help shows examples in the help text.
func (tokenCmd) Help() string {
	return `The token file holds hashes only; a running receiver reads it again when it changes.

  receiver token ci --tokens tokens.txt --out ci.token --expires 2160h
  sender send x.tar --to files.example --tls-ca ca.pem --token-file ci.token`
}

func (c *tokenCmd) run(a *app) error {
	if c.Out != "" && c.IfMissing {
		if _, err := os.Stat(c.Out); err == nil {
			return nil
		}
	}
	p, err := auth.ParsePrincipal(c.Principal)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	var expires time.Time
	if c.Expires > 0 {
		expires = time.Now().Add(c.Expires)
	}
	secret, line, err := auth.NewToken(p, expires)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	f, err := os.OpenFile(c.Tokens, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // hashes only
	if err != nil {
		return fmt.Errorf("add token: %w", err)
	}
	_, err = fmt.Fprintln(f, line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("add token to %s: %w", transfer.Quote(c.Tokens), err)
	}
	if c.Out == "" {
		_, err = fmt.Fprintln(a.stdout, secret)
		return err
	}
	if err := os.WriteFile(c.Out, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	return nil
}

// receiptKey is the path of the key that signs receipts, below the root.
func receiptKey(root string) string {
	return filepath.Join(root, transfer.StageDir, "receipt-key.pem")
}

// publicKeyCmd prints the key that verifies receipts.
type publicKeyCmd struct {
	Dir string `help:"The receiver's directory." default:"./inbox" type:"path" env:"SLUICE_DIR"`
}

func (c *publicKeyCmd) run(a *app) error {
	s, err := auth.LoadSigner(receiptKey(c.Dir))
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(s.PublicPEM())
	return err
}

// verifyReceiptCmd checks a signed receipt.
type verifyReceiptCmd struct {
	Receipt string `arg:"" help:"File with the envelope, or with the receipt or event that holds one (--json); - for standard input."`
	Key     string `help:"Public key (PEM), as receiver public-key prints it." required:"" type:"path" placeholder:"FILE"`
	Files   string `help:"Compare all files too: what receiver transfers files --json prints, or answers of ListTransferFiles as JSON; - for standard input." placeholder:"FILE"`
	JSON    bool   `name:"json" help:"Print the receipt as JSON."`
}

// Help shows examples in the help text.
func (verifyReceiptCmd) Help() string {
	return `  receiver public-key --dir ./inbox > receiver.pub
  sender send x.tar --json | tail -n 1 > receipt.json
  receiver verify-receipt receipt.json --key receiver.pub
  receiver transfers files ID --json > files.json
  receiver verify-receipt receipt.json --key receiver.pub --files files.json

Exit code 0: signed by that key, and the files are those; 5: not.`
}

func (c *verifyReceiptCmd) run(a *app) error {
	pem, err := os.ReadFile(c.Key)
	if err != nil {
		return cli.Usagef("read key: %w", err)
	}
	keys, err := auth.ParsePublicKeys(pem)
	if err != nil {
		return err
	}
	text, err := readFileOr(a.stdin, c.Receipt)
	if err != nil {
		return err
	}
	envelope, err := findEnvelope(text)
	if err != nil {
		return err
	}
	r, keyID, err := auth.OpenReceipt(envelope, keys...)
	if err != nil {
		return &transfer.Error{Kind: transfer.Corrupt, Op: "verify receipt", Path: c.Receipt, Err: err, Hint: "the receipt was changed, or another receiver signed it"}
	}
	if c.Files != "" {
		if err := c.checkFiles(a, r); err != nil {
			return err
		}
	}
	if c.JSON {
		return cli.JSONLine(a.stdout, r)
	}
	fmt.Fprintf(a.stdout, "good signature by key %s\n", keyID)
	if c.Files != "" {
		fmt.Fprintf(a.stdout, "the list has all %d files, unchanged\n", r.FileCount)
	}
	fmt.Fprintf(a.stdout, "transfer %s, %d files, %s, committed %s\n", r.ID, r.FileCount, cli.Size(r.Bytes), r.Committed.Format(time.RFC3339))
	for _, f := range r.Files {
		fmt.Fprintf(a.stdout, "  %-9s %s  %s\n", f.Outcome, transfer.Quote(f.Path), f.Digest)
	}
	return nil
}

// checkFiles compares the list of --files with the receipt.
func (c *verifyReceiptCmd) checkFiles(a *app, r *transfer.Receipt) error {
	if c.Files == "-" && c.Receipt == "-" {
		return cli.Usagef("standard input can be the receipt or the files, not both")
	}
	text, err := readFileOr(a.stdin, c.Files)
	if err != nil {
		return err
	}
	var all transfer.FilesDigest
	if err := eachFile(text, all.Add); err != nil {
		return err
	}
	err = r.CheckFiles(&all)
	var e *transfer.Error
	if errors.As(err, &e) && e.Kind == transfer.Corrupt {
		return e.WithHint("the list is not complete, not of this transfer, or was changed")
	}
	return err
}

// eachFile calls f for each file of a list: an object of FileReceipt, or one with
// a page of ListTransferFiles, and so on to the end of the text.
func eachFile(text []byte, f func(*transfer.FileReceipt)) error {
	invalid := func(err error) error {
		return transfer.Errorf(transfer.Invalid, "read list of files", "", "%w", err).WithHint("give what receiver transfers files ID --json prints")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		var object json.RawMessage
		if err := dec.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return invalid(err)
		}
		var file struct {
			Path *string `json:"path"` // a page has none
		}
		if err := json.Unmarshal(object, &file); err != nil {
			return invalid(err)
		}
		if file.Path != nil {
			var one transfer.FileReceipt
			if err := json.Unmarshal(object, &one); err != nil {
				return invalid(err)
			}
			f(&one)
			continue
		}
		var m pb.ListTransferFilesResponse
		if err := protojson.Unmarshal(object, &m); err != nil {
			return invalid(err)
		}
		files, err := control.FilesFromProto(m.GetFiles())
		if err != nil {
			return err
		}
		for i := range files {
			f(&files[i])
		}
	}
}

// findEnvelope looks for the envelope: the text itself, a receipt's, or that of
// the receipt in a --json event.
func findEnvelope(text []byte) ([]byte, error) {
	var o struct {
		PayloadType string `json:"payloadType"`
		Envelope    []byte `json:"envelope"`
		Receipt     *struct {
			Envelope []byte `json:"envelope"`
		} `json:"receipt"`
	}
	text = bytes.TrimSpace(text)
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, transfer.Errorf(transfer.Invalid, "verify receipt", "", "the file is not JSON: %w", err)
	}
	switch {
	case o.PayloadType != "":
		return text, nil
	case len(o.Envelope) > 0:
		return o.Envelope, nil
	case o.Receipt != nil && len(o.Receipt.Envelope) > 0:
		return o.Receipt.Envelope, nil
	}
	return nil, transfer.Errorf(transfer.Invalid, "verify receipt", "", "the file holds no signed receipt").WithHint("keep the receipt line of sender send --json")
}
