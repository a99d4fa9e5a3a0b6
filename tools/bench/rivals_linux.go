package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// rsyncDaemon copies whole files to an rsync daemon.
func rsyncDaemon() contender {
	return contender{name: "rsync", tools: []tool{{"rsync", "rsync"}}, run: func(ctx context.Context, t *trial) (sample, error) {
		return t.onPort(ctx, func(port int) (ends, []string, error) {
			me := ""
			if os.Getuid() == 0 {
				me = "uid = 0\ngid = 0\n"
			}
			conf, err := t.file("rsyncd.conf", "use chroot = no\nlog file = %s\n%s[m]\npath = %s\nread only = no\n", filepath.Join(t.tmp, "rsyncd.log"), me, t.out)
			client := []string{"rsync", "-a", "-W"}
			if t.place.durable {
				client = append(client, "--fsync")
			}
			client = append(client, t.work.path, "rsync://"+net.JoinHostPort(t.place.host, fmt.Sprint(port))+"/m/")
			return ends{server: []string{"rsync", "--daemon", "--no-detach", "--config", conf, "--address", t.place.host, "--port", fmt.Sprint(port)}}, client, err
		})
	}}
}

// nginxPut uploads to nginx's DAV module by one curl.
func nginxPut() contender {
	tools := []tool{{"nginx", "nginx-light"}, {"curl", "curl"}}
	return contender{name: "nginx PUT by curl", tools: tools, run: func(ctx context.Context, t *trial) (sample, error) {
		return t.onPort(ctx, func(port int) (ends, []string, error) {
			nginx, err := find("nginx")
			if err != nil {
				return ends{}, nil, err
			}
			me := ""
			if os.Getuid() == 0 {
				me = "user root;\n"
			}
			conf, err := t.file("nginx.conf", `%[1]sdaemon off;
worker_processes 1;
pid %[2]s/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
	access_log off;
	client_max_body_size 0;
	client_body_temp_path %[3]s/.nginx;
	proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
	keepalive_requests 10000000;
	server { listen %[4]s:%[5]d; root %[3]s; location / { dav_methods PUT; create_full_put_path on; } }
}
`, me, t.tmp, t.out, t.place.host, port)
			if err != nil {
				return ends{}, nil, err
			}
			puts, err := t.puts("http://" + net.JoinHostPort(t.place.host, fmt.Sprint(port)) + "/")
			if err != nil {
				return ends{}, nil, err
			}
			list, err := t.file("curl.conf", "%s", puts)
			return ends{server: []string{nginx, "-c", conf, "-e", "stderr", "-p", t.tmp}}, []string{"curl", "-q", "-sS", "-g", "--fail-early", "-f", "-K", list}, err
		})
	}}
}

// puts are curl's options to upload each file of the work.
func (t *trial) puts(root string) (string, error) {
	var b strings.Builder
	base := filepath.Dir(t.work.path)
	err := filepath.WalkDir(t.work.path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(base, path)
		fmt.Fprintf(&b, "url = %q\nupload-file = %q\n", root+(&url.URL{Path: rel}).EscapedPath(), path)
		return err
	})
	return b.String(), err
}

// scp copies by an sshd of its own, with keys of its own.
func scp() contender {
	tools := []tool{{"sshd", "openssh-server"}, {"scp", "openssh-client"}, {"ssh-keygen", "openssh-client"}}
	return contender{name: "scp", tools: tools, run: func(ctx context.Context, t *trial) (sample, error) {
		return t.onPort(ctx, func(port int) (ends, []string, error) {
			sshd, err := find("sshd") // it wants to be called by its full path
			if err != nil {
				return ends{}, nil, err
			}
			me, err := user.Current()
			if err != nil {
				return ends{}, nil, err
			}
			host, key := filepath.Join(t.tmp, "host"), filepath.Join(t.tmp, "key")
			for _, name := range []string{host, key} {
				if err := command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name); err != nil {
					return ends{}, nil, err
				}
			}
			conf, err := t.file("sshd.conf", `ListenAddress %s
Port %d
HostKey %s
AuthorizedKeysFile %s.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
`, t.place.host, port, host, key)
			client := []string{
				"scp", "-q", "-r", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
				"-o", "IdentitiesOnly=yes", "-i", key, "-P", fmt.Sprint(port), t.work.path, fmt.Sprintf("%s@%s:%s/", me.Username, t.place.host, t.out),
			}
			return ends{server: []string{sshd, "-D", "-e", "-f", conf}}, client, err
		})
	}}
}

// rclone copies to rclone's own WebDAV server.
func rclone() contender {
	return contender{name: "rclone to WebDAV", tools: []tool{{"rclone", "rclone"}}, run: func(ctx context.Context, t *trial) (sample, error) {
		return t.onPort(ctx, func(port int) (ends, []string, error) {
			addr := net.JoinHostPort(t.place.host, fmt.Sprint(port))
			verb := "copyto"
			if t.work.tree {
				verb = "copy"
			}
			client := []string{"rclone", "--config", "", verb, t.work.path, ":webdav:" + filepath.Base(t.work.path), "--webdav-url", "http://" + addr}
			return ends{server: []string{"rclone", "--config", "", "serve", "webdav", t.out, "--addr", addr}, env: []string{"RCLONE_CACHE_DIR=" + t.tmp}}, client, nil
		})
	}}
}

// iperf3 moves as many octets from memory to nowhere: the limit of TCP. Its
// time is by the rate that its receiving end counted, without its set-up.
func iperf3(streams int) contender {
	name := "iperf3 (no files)"
	if streams > 1 {
		name = fmt.Sprintf("iperf3, %d streams (no files)", streams)
	}
	return contender{name: name, tools: []tool{{"iperf3", "iperf3"}}, empty: true, run: func(ctx context.Context, t *trial) (sample, error) {
		return t.onPort(ctx, func(port int) (ends, []string, error) {
			p := fmt.Sprint(port)
			client := []string{"iperf3", "-c", t.place.host, "-p", p, "-n", fmt.Sprint(t.work.bytes), "-P", fmt.Sprint(streams), "-J"}
			return ends{
				server: []string{"iperf3", "-s", "-1", "-B", t.place.host, "-p", p},
				after: func(client *process, s *sample) error {
					text, err := os.ReadFile(client.logs.Name())
					if err != nil {
						return err
					}
					rate, err := iperfRate(text)
					if err == nil {
						s.took = time.Duration(float64(t.work.bytes) * 8 / rate * float64(time.Second))
					}
					return err
				},
			}, client, nil
		})
	}}
}

// iperfRate reads what iperf3 -J prints: bits per second at the receiving end.
func iperfRate(text []byte) (float64, error) {
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, fmt.Errorf("read iperf3's report: %w", err)
	}
	if report.End.Received.Rate <= 0 {
		return 0, fmt.Errorf("iperf3 reports no rate: %.500s", text)
	}
	return report.End.Received.Rate, nil
}
