package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"lukechampine.com/blake3"

	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// check compares what the sender says, what the receiver says, and what lies in
// the directory, with what was asked for.
func (r *run) check(ctx context.Context) error {
	var broken []error
	list, err := r.list(ctx)
	if err != nil {
		return err
	}
	if len(list) != r.cfg.Jobs {
		broken = append(broken, fmt.Errorf("the sender knows %d jobs, and %d were submitted", len(list), r.cfg.Jobs))
	}
	r.result.Jobs = len(list)
	for i := range r.cfg.Jobs {
		j := list[r.jobs[name(i)]]
		if j == nil {
			broken = append(broken, fmt.Errorf("%s: the job is lost", name(i)))
			continue
		}
		r.result.Attempts += j.Attempts
		if err := r.checkJob(name(i), j); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", name(i), err))
		}
	}
	if n := r.arrived(); n != r.cfg.Jobs {
		broken = append(broken, fmt.Errorf("%d files are published, of %d jobs", n, r.cfg.Jobs))
	}
	return errors.Join(append(broken, r.checkReceiver(ctx))...)
}

// list returns every job of the sender by id.
func (r *run) list(ctx context.Context) (map[client.ID]*client.Job, error) {
	out := map[client.ID]*client.Job{}
	f := client.Filter{PageSize: 1000}
	for {
		page, err := r.client.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Jobs {
			out[page.Jobs[i].ID] = &page.Jobs[i]
		}
		if f.PageToken = page.Next; page.Next == "" {
			return out, nil
		}
	}
}

func (r *run) checkJob(file string, j *client.Job) error {
	if j.State != client.Succeeded || j.Receipt == nil || len(j.Receipt.Files) != 1 {
		return fmt.Errorf("the job ended as %s (%s: %s) with receipt %+v", j.State, j.Kind, j.Reason, j.Receipt)
	}
	want, err := sum(filepath.Join(r.source, file))
	if err != nil {
		return err
	}
	got, err := sum(filepath.Join(r.target, file))
	if err != nil {
		return err
	}
	if said := j.Receipt.Files[0].Digest.String(); got != want || said != want {
		return fmt.Errorf("the source is %s, the published file %s, and the receipt says %s", want, got, said)
	}
	return nil
}

// checkReceiver asks the receiver for its transfers: each job's, committed, and
// no others.
func (r *run) checkReceiver(ctx context.Context) error {
	c, err := control.Dial(control.ClientConfig{Target: r.recv.where["control"]})
	if err != nil {
		return err
	}
	defer c.Close()
	ids := map[transfer.ID]bool{}
	for _, id := range r.jobs {
		ids[id] = true
	}
	f, n := transfer.ListFilter{PageSize: 1000}, 0
	for {
		page, err := c.List(ctx, f)
		if err != nil {
			return fmt.Errorf("list the receiver's transfers: %w", err)
		}
		for _, t := range page.Transfers {
			n++
			if !ids[t.ID] || t.State != transfer.StateCommitted {
				return fmt.Errorf("the receiver has a transfer %s in state %s", t.ID, t.State)
			}
		}
		if f.PageToken = page.Next; page.Next == "" {
			break
		}
	}
	if n != r.cfg.Jobs {
		return fmt.Errorf("the receiver committed %d transfers, of %d jobs", n, r.cfg.Jobs)
	}
	return nil
}

// sum hashes a file in one piece, by another path than the programs do.
func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := blake3.New(32, nil)
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("blake3:%x", h.Sum(nil)), nil
}
