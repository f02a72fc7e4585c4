package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ownerEnv makes the test binary the owner that TestOwnerDies kills.
const ownerEnv = "CLUSTER_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		c, err := Start(context.Background(), Options{})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(c.PID(), c.Dir)
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// What was committed is there after a SIGKILL of the whole server, on the same port, with sessions open at the time.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Settings: map[string]string{"synchronous_commit": "on"}})
	dsn := c.DSN("postgres", Superuser)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `create table t as select 1 as a`); err != nil {
		t.Fatal(err)
	}
	children := childrenOf(c.PID())
	if len(children) < 3 {
		t.Fatalf("a postmaster with %d children: the search for them is broken", len(children))
	}
	for round := range 3 {
		c.Kill()
		for _, pid := range children {
			if isAlive(pid) {
				t.Fatalf("round %d: child %d outlived Kill", round, pid)
			}
		}
		if err := RunSQL(t.Context(), dsn, `select 1`); err == nil {
			t.Fatal("the killed server answers")
		}
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		children = childrenOf(c.PID())
		if err := RunSQL(t.Context(), dsn, `do $$ begin assert (select count(*) = 1 from t); end $$`); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSettingsAndStop(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Settings: map[string]string{"wal_level": "replica", "application_name": "it's"}})
	err := RunSQL(t.Context(), c.DSN("postgres", Superuser), `do $$ begin
		assert current_setting('wal_level') = 'replica';
		assert current_setting('max_connections') = '200';
		assert current_setting('server_encoding') = 'UTF8';
		assert lower('Ä') = 'ä', 'ctype';
	end $$`)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", c.PID()))
		if err != nil {
			t.Fatal(err)
		}
		if info.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Error("the server runs as root")
		}
	}
	pid := c.PID()
	for range 2 {
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if isAlive(pid) {
		t.Error("the server outlived Stop")
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder outlived Stop: %v", err)
	}
	if err := c.Restart(t.Context()); err == nil {
		t.Error("a stopped cluster restarts")
	}
}

// A server that does not start says why, and leaves nothing.
func TestStartFails(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	parent, err := os.MkdirTemp("/tmp", "cbt-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Options{Dir: parent, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("the error does not hold the server's: %v", err)
	}
	left, _ := filepath.Glob(parent + "/*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Start(t.Context(), Options{Version: 9}); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("a version that does not exist: %v", err)
	}
}

// A server ends with its owner even when that gets SIGKILL, and the next Start removes what it left.
func TestOwnerDies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil {
		t.Fatalf("the owner said %q", line)
	}
	sweep("/tmp")
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the folder of a living owner was swept: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	for deadline := time.Now().Add(10 * time.Second); isAlive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server outlived its owner")
		}
	}
	start(t, Options{})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a dead owner was not swept: %v", err)
	}
}
