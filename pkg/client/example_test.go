package client_test

import (
	"context"
	"fmt"
	"os"

	"github.com/e27efefb/sluice/pkg/client"
)

// A program hands a file to the sender service and waits until it has arrived.
func Example() {
	dir, err := os.MkdirTemp("", "sluice-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	service := &cleanups{dir: dir}
	defer service.end()
	addr := serve(service) // stands for a sender service, such as 127.0.0.1:7410

	ctx := context.Background()
	c, err := client.Dial(client.Config{Target: addr})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	job, err := c.Submit(ctx, client.Spec{
		Sources:   []client.Source{{Path: "/outbox/build.tar"}},
		Receiver:  "a",
		RequestID: "build-1234",
	})
	if err != nil {
		panic(err)
	}
	job, err = c.Wait(ctx, job.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println(job.State, "verified:", job.Receipt.Verified)
	// Output: succeeded verified: true
}
