// Command server receives files over the plain protocol into a directory, one
// after the other. It needs nothing but the standard library.
//
//	server 127.0.0.1:8001 /tmp/inbox
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: server HOST:PORT DIRECTORY")
		os.Exit(2)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			os.Exit(1)
		}
		if err := receive(conn, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
		}
	}
}

func receive(conn net.Conn, dir string) error {
	defer conn.Close()
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("ok")); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, filepath.Base(string(buf[:n]))))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, conn)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
