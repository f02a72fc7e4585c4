// Package cluster starts throwaway Postgres servers for the demo, the benchmark and the tests.
//
// Each cluster lives in a folder of its own, /tmp/cba-XXXX (a socket's path may have 107 bytes only), mode 0700, and
// listens on a Unix socket there and on 127.0.0.1. Postgres refuses root, so under root the server runs as the user
// postgres, else as nobody. It dies with us, even by SIGKILL: the kernel sends it SIGQUIT when our process ends. What
// such an end leaves in /tmp, the next Start sweeps.
//
// Nothing here is safe for data: fsync is off. It is for servers that nobody will miss.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Options says what to start. The zero value is a cluster of DefaultVersion with the default settings.
type Options struct {
	Version  int               // major version, 0: DefaultVersion
	Settings map[string]string // laid over defaultSettings
	Dir      string            // the parent folder, "": /tmp. Keep it short.
}

// DefaultVersion is Debian 12's, the one that must be installed.
const DefaultVersion = 15

// Superuser is the bootstrap role of every cluster. Local connections are trusted, whatever the user.
const Superuser = "postgres"

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// defaultSettings trade all durability for speed; 64 slots so that tests need not take turns.
var defaultSettings = map[string]string{
	"fsync":                 "off",
	"synchronous_commit":    "off",
	"full_page_writes":      "off",
	"wal_level":             "logical",
	"max_replication_slots": "64",
	"max_wal_senders":       "64",
	"max_connections":       "200",
	"autovacuum":            "off",
	"shared_buffers":        "64MB",
	"jit":                   "off",
	"timezone":              "UTC",
	"log_timezone":          "UTC",
	"log_line_prefix":       "%m [%p] %d ",
	"lc_messages":           "C",
}

// Cluster is one server. Its methods may be called by several goroutines, one at a time.
type Cluster struct {
	Version int
	Dir     string // its folder
	Port    int

	bin     string // folder of postgres and initdb
	account account
	lock    *os.File // flock held as long as we live; see sweep

	mu      sync.Mutex
	running *process // nil: not running
	removed bool
}

// Start makes a new cluster and waits until it answers. The caller owes a Stop.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Version == 0 {
		o.Version = DefaultVersion
	}
	if o.Dir == "" {
		o.Dir = "/tmp"
	}
	bin, err := findBinaries(o.Version)
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	sweep(o.Dir)
	dir, lock, err := makeFolder(o.Dir, account)
	if err != nil {
		return nil, fmt.Errorf("make the folder of a cluster: %w", err)
	}
	c := &Cluster{Version: o.Version, Dir: dir, bin: bin, account: account, lock: lock}
	if err := c.create(ctx, o.Settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start a throwaway Postgres %d: %w", o.Version, err), c.Stop())
	}
	return c, nil
}

// create runs initdb, writes the settings and starts the server on the first port that nobody else has taken meanwhile.
func (c *Cluster) create(ctx context.Context, settings map[string]string) error {
	if err := c.makeReachable(ctx); err != nil {
		return err
	}
	initdb := c.command(ctx, "initdb", "--pgdata", c.data(), "--username", Superuser, "--auth", "trust", "--no-sync",
		"--encoding", "UTF8", "--lc-collate", "C", "--lc-ctype", "C.UTF-8", "--lc-messages", "C", "--lc-monetary", "C",
		"--lc-numeric", "C", "--lc-time", "C")
	runtime.LockOSThread() // Pdeathsig: see startProcess
	out, err := initdb.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastLines(string(out), 10))
	}
	all := maps.Clone(defaultSettings)
	maps.Copy(all, settings)
	all["listen_addresses"] = "127.0.0.1"
	all["unix_socket_directories"] = c.Dir
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(conf.String()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		if c.Port, err = freePort(); err != nil {
			return err
		}
		err := c.Restart(ctx)
		if err == nil || attempt == 5 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

// Restart starts the server on its old data and port, after a Kill or Shutdown, or stops it first when it runs.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Shutdown(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return errors.New("the cluster is gone: it was stopped")
	}
	logOffset := fileSize(c.LogFile())
	logFile, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() // the server has its own copy
	cmd := c.command(context.WithoutCancel(ctx), "postgres", "-D", c.data(), "-p", strconv.Itoa(c.Port))
	cmd.Stdout, cmd.Stderr = logFile, logFile
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.waitReady(ctx, p); err != nil {
		p.killTree()
		return fmt.Errorf("%w; the end of its log:\n%s", err, tail(c.LogFile(), logOffset))
	}
	c.running = p
	return nil
}

// waitReady polls until the server takes a connection or ends.
func (c *Cluster) waitReady(ctx context.Context, p *process) error {
	dsn := c.DSN("postgres", Superuser)
	for {
		conn, err := pgconn.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return errors.New("the server ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("the server did not get ready: %w", errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Shutdown stops the server in good order (fast mode) and keeps its data for Restart. Nothing happens when it is down.
func (c *Cluster) Shutdown() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return nil
	}
	p := c.running
	c.running = nil
	return p.stop(syscall.SIGINT, stopTimeout)
}

// Kill ends the postmaster and all its children by SIGKILL, as a crash of the machine would. Restart brings it back.
func (c *Cluster) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		c.running.killTree()
		c.running = nil
	}
}

// Stop ends the server at once (SIGQUIT: its data is not kept anyway) and removes its folder. It may be called twice.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.running != nil {
		err = c.running.stop(syscall.SIGQUIT, stopTimeout)
		c.running = nil
	}
	if c.removed {
		return err
	}
	c.removed = true
	removeSharedMemory(c.data()) // left behind by Kill
	err = errors.Join(err, os.RemoveAll(c.Dir))
	return errors.Join(err, c.lock.Close())
}

// DSN is the connection string of a user in a database, over TCP. No password is needed.
func (c *Cluster) DSN(db, user string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)),
		Path: "/" + db, RawQuery: "sslmode=disable"}
	return u.String()
}

// LogFile is the file with all that the server said.
func (c *Cluster) LogFile() string { return filepath.Join(c.Dir, "log") }

// PID is the postmaster's, 0 when the server is down.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return 0
	}
	return c.running.pid
}

func (c *Cluster) data() string { return filepath.Join(c.Dir, "data") }

// command prepares one of Postgres' programs: as the server's user, with nothing of our environment that could change
// what it does, and with our end as its end.
func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.Dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + c.Dir}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // initdb has children
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.account.credential(),
		Setpgid:    true, // Ctrl-C at our terminal is ours: we stop the server ourselves
		Pdeathsig:  syscall.SIGQUIT,
	}
	return cmd
}

// Program is the path of one of the client programs that come with the server: pg_dump, psql, pgbench, pg_recvlogical.
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }
