package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a running `casebook-audit run`.
type daemon struct {
	w    *world
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

const (
	startTimeout = time.Minute
	stopTimeout  = 15 * time.Second
	poll         = 2 * time.Millisecond
)

// startDaemon starts the daemon and waits until it streams.
func (w *world) startDaemon(ctx context.Context) (*daemon, error) {
	w.started++
	d := &daemon{w: w, done: make(chan struct{}), log: filepath.Join(w.dir, fmt.Sprintf("run-%d.log", w.started))}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy
	d.cmd = exec.Command(w.program, "run", "--config", w.config)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if w.profileDir != "" {
		d.cmd.Env = append(os.Environ(), "BENCH_PROFILE="+filepath.Join(w.profileDir, fmt.Sprintf("run-%d", w.started)))
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig follows the thread, not the process
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			_ = d.cmd.Wait() // how it ended is in ProcessState
			close(d.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := d.wait(ctx, func() (bool, error) {
		text, err := os.ReadFile(d.log)
		return strings.Contains(string(text), `"msg":"streaming"`), err
	}); err != nil {
		_ = d.cmd.Process.Kill()
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return d, nil
}

// wait polls until the condition holds, the daemon has ended or ctx has.
func (d *daemon) wait(ctx context.Context, holds func() (bool, error)) error {
	for {
		if ok, err := holds(); err != nil || ok {
			return err
		}
		select {
		case <-d.done:
			return fmt.Errorf("the daemon has ended:\n%s", d.said())
		case <-ctx.Done():
			return fmt.Errorf("%w; the daemon's last words:\n%s", ctx.Err(), d.said())
		case <-time.After(poll):
		}
	}
}

func (d *daemon) said() string {
	text, _ := os.ReadFile(d.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
		if !d.cmd.ProcessState.Success() {
			return fmt.Errorf("the daemon ended with %s:\n%s", d.cmd.ProcessState, d.said())
		}
		return nil
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		<-d.done
		return fmt.Errorf("the daemon did not stop within %s", stopTimeout)
	}
}

// memory reads a line of the process' status, in bytes: VmRSS, VmHWM.
func (d *daemon) memory(name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// cpuTime is what a process has used so far; 0 when it is gone.
func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 wherever Linux runs
}

//go:embed profile.go.txt
var profileGo []byte

// profilingOverlay makes the file for `go build -overlay` that adds profile.go.txt to the program.
func (w *world) profilingOverlay(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "casebook.example/audit/cmd/casebook-audit").Output()
	if err != nil {
		return "", fmt.Errorf("find the program's sources: %w", err)
	}
	file := filepath.Join(w.dir, "profile.go")
	if err := os.WriteFile(file, profileGo, 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(strings.TrimSpace(string(out)), "zz_profile.go"): file}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(w.dir, "overlay.json")
	return name, os.WriteFile(name, overlay, 0o600)
}
