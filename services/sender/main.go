// Command sender moves files to a receiver, once or as a service.
package main

import (
	"context"
	"os"

	"github.com/e27efefb/sluice/services/internal/cli"
)

func main() {
	cli.TuneScheduler()
	cli.TuneDescriptors()
	cli.TuneMemory()
	err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	os.Exit(cli.ExitCode(err))
}
