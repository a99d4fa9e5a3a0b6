package plain

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Defaults of [ServerConfig].
const (
	// DefaultNameGap is the silence that ends the name. Two writes of one
	// client on one machine are microseconds apart; 20 ms is what the protocol
	// of the documents agreed on.
	DefaultNameGap = 20 * time.Millisecond
	// MaxName is the longest name in bytes that is read before the client is
	// refused: PATH_MAX of Linux, 4,096 bytes. The path grammar is stricter.
	MaxName = 4096
	// DefaultIdleTimeout is the longest silence in the middle of a connection.
	DefaultIdleTimeout = 60 * time.Second
	// DefaultMaxConns bounds the connections served at once.
	DefaultMaxConns = 256
)

// copyBuffer is the size of the reads of content, in bytes. At 256 KiB a read
// costs less than a tenth of hashing what it brought, and 256 connections hold
// 64 MiB.
const copyBuffer = 256 << 10

// Store is where received files go. Implementations are safe for concurrent
// use.
type Store interface {
	// Begin reserves a place for the file that peer calls name. The name is
	// bare and has passed the path grammar. An error refuses the client: its
	// text is shown to it when it is a transfer.Error, and hidden otherwise.
	Begin(ctx context.Context, name string, peer netip.AddrPort) (Upload, error)
}

// Upload is one file on its way in. It is used by one goroutine, and exactly
// one of Publish and Discard is called, once, as the last call.
type Upload interface {
	// Write appends content. It must not keep p.
	io.Writer
	// Publish makes what was written durable and visible under its name,
	// atomically.
	Publish(ctx context.Context) (Receipt, error)
	// Discard removes what was written. Cause says why, for the record.
	Discard(cause error)
}

// Receipt says what became of a published file.
type Receipt struct {
	// ID is the transfer id, or empty.
	ID string
	// Name is the name it was published under, which differs from the asked one
	// under the conflict policy "rename".
	Name string
	// Digest is the digest of the content as text, or empty.
	Digest string
	// Size is the number of bytes received. The client never declared one.
	Size int64
}

// ServerConfig sets up a [Server]. Only Store is required.
type ServerConfig struct {
	// Store receives the files.
	Store Store
	// NameGap is the silence that ends the name; 0 means DefaultNameGap. A name
	// sent in two segments further apart than this is cut, see the limits in
	// the package documentation.
	NameGap time.Duration
	// Names is the set of rules for names; the zero value is the standard one.
	Names transfer.Names
	// MaxSize is the largest content in bytes; 0 means no limit here (the store
	// may have one).
	MaxSize int64
	// IdleTimeout is the longest silence before the name, between two reads of
	// content, and for writing an answer; 0 means DefaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxConns bounds the connections served at once; 0 means DefaultMaxConns.
	// When all are taken, the one that has been silent the longest without
	// having given its whole name makes room for a newcomer; when all are
	// receiving content, the newcomer is answered "error: busy".
	MaxConns int
	// Grace is how long files in flight may go on after the context of Serve
	// ends; 0 cuts them at once.
	Grace time.Duration
	// Logger gets one record for each connection; nil discards them.
	Logger *slog.Logger
	// Observer is told about each connection that ended; nil means nobody is.
	Observer func(Outcome)
}

// Outcome describes a connection that ended.
type Outcome struct {
	// Peer is the client's address.
	Peer netip.AddrPort
	// Name is what the client asked for, or empty if it never said.
	Name string
	// Receipt is set when a file was published.
	Receipt Receipt
	// Bytes is how much content arrived.
	Bytes int64
	// Elapsed runs from accepting to closing.
	Elapsed time.Duration
	// Err is nil when a file was published, else why not.
	Err error
}

// Server receives files over the plain protocol. Make it with [NewServer].
type Server struct {
	cfg    ServerConfig
	buf    sync.Pool
	linger chan struct{}

	active  atomic.Int64
	refused atomic.Int64

	mu    sync.Mutex
	conns map[*conn]struct{}
	quiet []*conn // without a whole name yet, the oldest first
}

// NewServer returns a server with the given configuration.
func NewServer(cfg ServerConfig) *Server {
	if cfg.NameGap <= 0 {
		cfg.NameGap = DefaultNameGap
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = DefaultIdleTimeout
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg:    cfg,
		buf:    sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
		linger: make(chan struct{}, max(16, cfg.MaxConns/4)),
		conns:  make(map[*conn]struct{}),
	}
}

// Active returns the number of connections being served.
func (s *Server) Active() int { return int(s.active.Load()) }

// Refused returns the number of connections that were turned away or evicted
// because MaxConns was reached.
func (s *Server) Refused() int64 { return s.refused.Load() }

// Serve accepts clients on ln until ctx ends, then closes ln, gives files in
// flight the configured grace, discards the rest, and returns when every
// connection has been closed. It returns nil after ctx ended, and otherwise
// the error that made accepting impossible. A lack of descriptors is waited
// out, never an end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Connections outlive ctx by the grace, so they get a context of their own.
	live, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
			_ = ln.Close()
		case <-stopped:
		}
	})
	err := s.accept(ctx, live, ln, &wg)
	close(stopped)
	timer := s.stop(cut)
	wg.Wait()
	timer.Stop()
	return err
}

// accept is the loop of Serve.
func (s *Server) accept(ctx, live context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	const longest = time.Second
	pause := 5 * time.Millisecond
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
		case ctx.Err() != nil:
			return nil
		case outOfResources(err):
			// EMFILE, ENFILE, ENOBUFS: clients wait in the backlog meanwhile.
			s.cfg.Logger.Warn("plain: accept failed, trying again", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, longest)
			continue
		default:
			_ = ln.Close()
			return failure(transfer.Unavailable, err, "accept plain clients on %s", ln.Addr())
		}
		c := &conn{srv: s, nc: nc, peer: addrPort(nc.RemoteAddr()), start: time.Now()}
		if !s.admit(c) {
			wg.Go(c.turnAway)
			continue
		}
		wg.Go(func() {
			defer s.leave(c)
			c.serve(live)
		})
	}
}

// admit registers c, making room for it if need be.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConns {
		s.refused.Add(1)
		if len(s.quiet) == 0 {
			return false
		}
		oldest := s.quiet[0]
		s.quiet = s.quiet[1:]
		// It no longer counts, and its goroutine is woken to say goodbye.
		delete(s.conns, oldest)
		oldest.interrupt(errEvicted)
	}
	s.conns[c] = struct{}{}
	s.quiet = append(s.quiet, c)
	s.active.Store(int64(len(s.conns)))
	return true
}

// named takes c off the list of connections that may be evicted. It reports
// false if c has been evicted already.
func (s *Server) named(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unquiet(c)
	return c.interrupted() == nil
}

func (s *Server) unquiet(c *conn) {
	for i, q := range s.quiet {
		if q == c {
			s.quiet = append(s.quiet[:i], s.quiet[i+1:]...)
			return
		}
	}
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unquiet(c)
	delete(s.conns, c)
	s.active.Store(int64(len(s.conns)))
}

// stop ends the connections that have no file now, and the others after the
// grace unless the returned timer is stopped first.
func (s *Server) stop(cut context.CancelCauseFunc) *time.Timer {
	s.mu.Lock()
	for _, c := range s.quiet {
		c.interrupt(errStopping)
	}
	s.mu.Unlock()
	return time.AfterFunc(s.cfg.Grace, func() {
		cut(errStopping)
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.interrupt(errStopping)
		}
	})
}
