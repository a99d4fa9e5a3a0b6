package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// Events of --json; docs/commands.md lists them and their fields are stable.
type (
	offerEvent struct {
		Event string      `json:"event"` // "offer"
		ID    transfer.ID `json:"id"`
		To    string      `json:"to"`
		Part  uint32      `json:"part"`
		Files int         `json:"files"`
		Last  bool        `json:"last"`
		First string      `json:"first,omitempty"`
	}
	answerEvent struct {
		Event   string      `json:"event"` // "answer"
		ID      transfer.ID `json:"id"`
		OK      bool        `json:"ok"`
		Part    uint32      `json:"part"`
		Epoch   uint64      `json:"epoch"`
		Lanes   int         `json:"max_lanes"`
		Held    int64       `json:"bytes_held"`
		DataTLS bool        `json:"data_tls"`
		Durable bool        `json:"durable"`
	}
	progressEvent struct {
		Event   string      `json:"event"` // "progress"
		ID      transfer.ID `json:"id"`
		Acked   int64       `json:"bytes_acked"`
		Held    int64       `json:"bytes_held"`
		Skipped int64       `json:"bytes_skipped"`
		Total   int64       `json:"bytes_total"` // -1: not known
		Files   int64       `json:"files_done"`
		Entries int64       `json:"entries"`
		Scanned bool        `json:"scanned"`
		Lanes   int         `json:"lanes"`
		Session int         `json:"session"`
		Seconds float64     `json:"seconds"`
	}
	receiptEvent struct {
		Event   string            `json:"event"` // "receipt"
		Receipt *transfer.Receipt `json:"receipt"`
		Sent    int64             `json:"bytes_sent"`
		Resent  int64             `json:"bytes_resent"`
		Lanes   int               `json:"lanes"`
		Seconds float64           `json:"seconds"`
		BoundBy string            `json:"bound_by,omitempty"`
		LeftOut int64             `json:"left_out,omitempty"`
	}
	planEvent struct {
		Event    string             `json:"event"` // "plan"
		OK       bool               `json:"ok"`
		Files    int64              `json:"files"`
		Dirs     int64              `json:"directories"`
		Links    int64              `json:"links"`
		Bytes    int64              `json:"bytes"`
		Send     int64              `json:"bytes_to_send"`
		Free     int64              `json:"free_bytes"`
		Problems []transfer.Problem `json:"problems,omitempty"`
	}
)

// ui shows a transfer to a person (a bar on a terminal, the receipt at the end)
// or to a program (--json).
type ui struct {
	cmd   *sendCmd
	a     *app
	src   *source.Source
	start time.Time
	id    transfer.ID
	last  time.Time

	bars *mpb.Progress
	bar  *mpb.Bar
	note string
}

func newUI(c *sendCmd, a *app, src *source.Source) *ui {
	u := &ui{cmd: c, a: a, src: src, start: time.Now()}
	if !c.JSON && !c.Quiet && !c.Plan && cli.IsTerminal(a.stderr) {
		u.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(40), mpb.WithRefreshRate(150*time.Millisecond))
		u.bar = u.bars.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─"),
			mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return u.note })),
			mpb.AppendDecorators(
				decor.CountersKibiByte(" % .1f / % .1f"),
				decor.AverageSpeed(decor.SizeB1024(0), "  % .0f  "),
				decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncWidth), ""),
			))
	}
	return u
}

func (u *ui) Offer(p *transfer.OfferPart) {
	u.id = p.ID
	if u.cmd.JSON {
		e := offerEvent{Event: "offer", ID: p.ID, To: u.cmd.To, Part: p.Part, Files: len(p.Entries), Last: p.Last}
		if len(p.Entries) > 0 {
			e.First = p.Entries[0].Path.String()
		}
		_ = cli.JSONLine(u.a.stdout, e)
	}
}

func (u *ui) Answer(part uint32, ans *transfer.Answer) {
	if !u.cmd.JSON {
		return
	}
	var held int64
	for _, f := range ans.Files {
		held += f.Held.Bytes(transfer.UnknownSize, f.ChunkSize)
	}
	_ = cli.JSONLine(u.a.stdout, answerEvent{
		Event: "answer", ID: u.id, OK: true, Part: part, Epoch: uint64(ans.Epoch), Lanes: ans.MaxLanes, Held: held, DataTLS: ans.DataTLS, Durable: ans.Durable,
	})
}

// jsonEvery is how often --json prints progress.
const jsonEvery = 500 * time.Millisecond

func (u *ui) Progress(p send.Progress) {
	done := p.Acked + p.Held + p.Skipped
	if u.bar != nil {
		u.note = fmt.Sprintf("%d files  ", p.Entries)
		if p.Entries == 1 {
			u.note = ""
		}
		u.bar.SetTotal(max(p.Total, done), false)
		u.bar.SetCurrent(done)
	}
	now := time.Now()
	if u.cmd.JSON && (now.Sub(u.last) >= jsonEvery || p.Scanned && done == p.Total) {
		u.last = now
		_ = cli.JSONLine(u.a.stdout, progressEvent{
			Event: "progress", ID: u.id, Acked: p.Acked, Held: p.Held, Skipped: p.Skipped, Total: p.Total, Files: p.Files, Entries: p.Entries,
			Scanned: p.Scanned, Lanes: p.Lanes, Session: p.Session, Seconds: now.Sub(u.start).Seconds(),
		})
	}
}

func (u *ui) Lane(l send.LaneState) {
	if u.cmd.Verbose && !u.cmd.JSON && u.bar == nil {
		switch {
		case l.Err != nil:
			fmt.Fprintf(u.a.stderr, "lane %d %s: %v\n", l.Lane, l.Event, l.Err)
		default:
			fmt.Fprintf(u.a.stderr, "lane %d %s\n", l.Lane, l.Event)
		}
	}
}

func (u *ui) Receipt(*transfer.Receipt) {}

// close takes the bar off the terminal.
func (u *ui) close() {
	if u.bars != nil {
		u.bar.Abort(true)
		u.bars.Wait()
		u.bars, u.bar = nil, nil
	}
}

// maxShown is how many files or problems a receipt on a terminal names.
const maxShown = 20

func (u *ui) result(res *send.Result) error {
	r, s := res.Receipt, res.Stats
	if u.cmd.JSON {
		return cli.JSONLine(u.a.stdout, receiptEvent{
			Event: "receipt", Receipt: r, Sent: s.Sent, Resent: s.Resent, Lanes: s.Lanes, Seconds: s.Elapsed.Seconds(), BoundBy: s.BoundBy, LeftOut: res.Left,
		})
	}
	w := u.a.stdout
	if u.cmd.Quiet {
		w = io.Discard
	}
	var b strings.Builder
	rate := ""
	if s.Sent > 0 && s.Elapsed > 0 {
		rate = ", " + cli.Size(int64(float64(s.Sent)/s.Elapsed.Seconds())) + "/s"
	}
	fmt.Fprintf(&b, "sent %s in %s (%s in %s%s)\n", cli.Size(r.Bytes), plural(r.FileCount, "entry", "entries"), cli.Size(s.Sent), cli.Duration(s.Elapsed), rate)
	for i, f := range notable(r) {
		if i == maxShown {
			fmt.Fprintf(&b, "  … (receiver transfers files %s shows all)\n", r.ID)
			break
		}
		fmt.Fprintf(&b, "  %s\n", fileLine(f))
	}
	fmt.Fprintf(&b, "receipt %s: %s, %s", r.ID, counts(r), verified(r))
	if r.Durable {
		b.WriteString(", on stable storage")
	}
	b.WriteByte('\n')
	if u.cmd.Verbose {
		fmt.Fprintf(&b, "lanes %d, sessions %d, sent again %s, held before %s; bounded by: %s\n", s.Lanes, s.Sessions, cli.Size(s.Resent), cli.Size(s.Hashed), orNone(s.BoundBy))
		fmt.Fprintf(&b, "time over lanes: reading %s, hashing %s, writing %s, waiting for acknowledgements %s, idle %s\n",
			cli.Duration(s.Reading), cli.Duration(s.Hashing), cli.Duration(s.Writing), cli.Duration(s.Acks), cli.Duration(s.Idle))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if res.Left > 0 {
		fmt.Fprintf(u.a.stderr, "sender: %s left out:\n", plural(res.Left, "file was", "files were"))
		for i, p := range res.Problems {
			if i == maxShown {
				fmt.Fprintf(u.a.stderr, "  … and %d more\n", res.Left-maxShown)
				break
			}
			fmt.Fprintf(u.a.stderr, "  %s: %s\n", transfer.Quote(p.Path), p.Reason)
		}
	}
	return nil
}

// notable are the files worth a line: all of a small transfer, else those that
// were not simply published.
func notable(r *transfer.Receipt) []transfer.FileReceipt {
	if r.FileCount <= 3 {
		return r.Files
	}
	return slices.DeleteFunc(slices.Clone(r.Files), func(f transfer.FileReceipt) bool {
		return f.Outcome == transfer.Published || f.Outcome == transfer.DirExisted
	})
}

func fileLine(f transfer.FileReceipt) string {
	name := f.Path
	if f.Published != "" {
		name = f.Published
	}
	line := fmt.Sprintf("%-9s %s", f.Outcome, transfer.Quote(name))
	if f.Type == transfer.Regular.String() && f.Reason == "" {
		line += "  " + f.Digest.String()
	}
	if f.Reason != "" {
		line += "  " + f.Reason
	}
	return line
}

func counts(r *transfer.Receipt) string {
	var parts []string
	for o := transfer.Published; o <= transfer.DirExisted; o++ {
		if n := r.Counts[o.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

func verified(r *transfer.Receipt) string {
	if !r.Verified {
		return "NOT verified"
	}
	return "verified by " + r.Algorithm
}

func orNone(s string) string {
	if s == "" {
		return "nothing in particular"
	}
	return s
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// plan shows what would happen. A refusal is an error, after what is known was
// shown.
func (u *ui) plan(res *send.Result) error {
	c, p := res.Plan, res.Plan
	problems := append(slices.Clone(res.Problems), p.Refused...)
	if u.cmd.JSON {
		e := planEvent{Event: "plan", OK: p.Reason == nil, Files: c.Files, Dirs: c.Dirs, Links: c.Links, Bytes: c.Bytes, Send: p.ToSend, Free: p.FreeBytes, Problems: problems}
		if err := cli.JSONLine(u.a.stdout, e); err != nil {
			return err
		}
		return p.Reason
	}
	fmt.Fprintf(u.a.stdout, "would send %s: %s, %s, %s\n", cli.Size(c.Bytes), plural(c.Files, "file", "files"), plural(c.Dirs, "directory", "directories"), plural(c.Links, "link", "links"))
	if n, _ := u.src.Counts(); n.Excluded+n.SkippedLinks+n.SkippedSpecial > 0 {
		fmt.Fprintf(u.a.stdout, "left out: %d excluded, %d links, %d special files\n", n.Excluded, n.SkippedLinks, n.SkippedSpecial)
	}
	if p.Skipped > 0 {
		fmt.Fprintf(u.a.stdout, "identical there already: %s\n", plural(p.Skipped, "file", "files"))
	}
	if p.Reason != nil {
		return p.Reason
	}
	if p.FreeBytes >= 0 {
		fmt.Fprintf(u.a.stdout, "free at the receiver after that: %s\n", cli.Size(p.FreeBytes))
	}
	fmt.Fprintln(u.a.stdout, "the receiver says ok")
	_, err := io.WriteString(u.a.stdout, unforeseen(u.cmd.OnConflict, c.Files+c.Dirs+c.Links))
	return err
}

// unforeseen says what the receiver decides when it publishes and an offer does
// not tell: it refuses the one name of a single file, of several it looks at
// directories alone (pkg/store, the file destination.go).
func unforeseen(policy string, entries int64) string {
	const when = "not foreseen: names that are taken when the files are published; "
	switch {
	case policy == "overwrite":
		return when + "such files are replaced\n"
	case policy == "rename":
		return when + "the new files get other names\n"
	case entries == 1:
		return ""
	case policy == "skip-identical":
		return when + "files that differ are not published (exit code 7)\n"
	default:
		return when + "such files are not published (exit code 7)\n"
	}
}
