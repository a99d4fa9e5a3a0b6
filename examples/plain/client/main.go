// Command client sends one file over the plain protocol: the name, "ok", the
// content, close. It needs nothing but the standard library.
//
//	client 127.0.0.1:8001 photo.jpg
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: client HOST:PORT FILE")
		os.Exit(2)
	}
	if err := send(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func send(addr, path string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte(info.Name())); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if string(answer[:n]) != "ok" {
		return fmt.Errorf("refused: %s", answer[:n])
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(conn, f)
	return err
}
