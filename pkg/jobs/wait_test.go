package jobs

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Who waits for a job does not read it again at each change of any job.
func TestWaitReadsTheFileOnlyAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running *Live
		goOn := make(chan struct{})
		q, _ := open(t, Config{Runner: runnerFunc(func(_ context.Context, j Job, live *Live) (*transfer.Receipt, error) {
			running = live
			<-goOn
			return receipt(j), nil
		})})
		id := submit(t, q, spec("/x")).ID
		var ended *Job
		go func() {
			var err error
			if ended, err = q.Wait(t.Context(), "", id); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		before := q.db.bolt.Stats().TxN
		for i := range 10 {
			running.Report(Progress{Note: fmt.Sprint(i)}) // tells everybody
			synctest.Wait()
		}
		if n := q.db.bolt.Stats().TxN - before; n > 0 {
			t.Errorf("the file was read %d times", n)
		}
		close(goOn)
		synctest.Wait()
		if ended == nil || ended.State != Succeeded {
			t.Errorf("%+v", ended)
		}
	})
}

// A job that was cancelled has ended for those that wait, although its runner
// has not returned yet.
func TestWaitEndsWithCancel(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	q, _ := open(t, Config{Runner: runnerFunc(func(context.Context, Job, *Live) (*transfer.Receipt, error) {
		close(started)
		<-goOn
		return nil, errCanceled
	})})
	defer close(goOn)
	id := submit(t, q, spec("/x")).ID
	<-started
	ended := make(chan *Job)
	go func() {
		j, err := q.Wait(t.Context(), "", id)
		if err != nil {
			t.Error(err)
		}
		ended <- j
	}()
	if _, err := q.Cancel(t.Context(), "", id, ""); err != nil {
		t.Fatal(err)
	}
	if j := <-ended; j == nil || j.State != Canceled {
		t.Errorf("%+v", j)
	}
}
