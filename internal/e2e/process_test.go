package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a running casebook-audit.
type process struct {
	cmd     *exec.Cmd
	logFile string
	done    chan struct{} // closed when it has ended; cmd.ProcessState holds how
	killed  atomic.Bool   // by us
}

// start starts the daemon and does not wait for anything. It ends with the test at the latest.
func (w *world) start(t *testing.T) *process {
	t.Helper()
	p, err := w.launch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of %s:\n%s", filepath.Base(p.logFile), lastLines(p.log(), 15))
		}
	})
	return p
}

// launch starts `casebook-audit run`. The process ends with our own at the latest.
func (w *world) launch() (*process, error) {
	p := &process{done: make(chan struct{}), logFile: filepath.Join(w.dir, fmt.Sprintf("run-%d.log", w.started.Add(1)))}
	log, err := os.Create(p.logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy
	p.cmd = exec.Command(program, "run", "--config", w.config)
	p.cmd.Env = environment()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig follows the thread, not the process
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in ProcessState
			close(p.done)
		}
	}()
	return p, <-started
}

// environment is ours without the variables that the program or libpq would read.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CASEBOOK_AUDIT_") && !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	return env
}

// kill ends the process by SIGKILL and returns when it is gone.
func (p *process) kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// wait gives the exit code, and fails the test when there is none in time.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("the daemon did not end within %s", limit)
		return -1
	}
}

// log is all that the process has printed so far.
func (p *process) log() string {
	text, _ := os.ReadFile(p.logFile)
	return string(text)
}

// result is what a command that ended said.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\n--- stdout\n%s\n--- stderr\n%s", r.code, lastLines(r.stdout, 25), lastLines(r.stderr, 25))
}

// run runs a command of the program to its end. env is laid over the environment.
func (w *world) run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, "--config", w.config)...)
	cmd.Env = append(environment(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("casebook-audit %s: %v", strings.Join(args, " "), err)
	}
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	noSecrets(t, "the output of casebook-audit "+strings.Join(args, " "), r.stdout+r.stderr)
	return r
}

// mustRun runs a command that has to succeed.
func (w *world) mustRun(t *testing.T, args ...string) result {
	t.Helper()
	r := w.run(t, nil, args...)
	if r.code != 0 {
		t.Fatalf("casebook-audit %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// metric reads one value of /metrics. name may have labels: stopped{reason="sink"}. ok is false when there is none.
func (w *world) metric(name string) (value float64, ok bool) {
	text, _ := w.get("/metrics")
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, "casebook_audit_"+name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return value, err == nil
		}
	}
	return 0, false
}

// get asks the metrics port. A daemon that is not there gives "".
func (w *world) get(path string) (body string, status int) {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + w.metrics + path)
	if err != nil {
		return "", 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", 0
	}
	return string(text), resp.StatusCode
}

// streaming waits until the daemon says that it captures.
func (w *world) streaming(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "the daemon streams", func() bool {
		_, status := w.get("/readyz")
		return status == http.StatusOK
	})
}

// eventually polls until the condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
