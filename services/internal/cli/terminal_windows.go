package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// terminalColumns returns the width of the console that f is, else 0.
func terminalColumns(f *os.File) int {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(windows.Handle(f.Fd()), &info) != nil {
		return 0
	}
	return int(info.Window.Right-info.Window.Left) + 1
}
