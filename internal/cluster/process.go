package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running postmaster.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended and is reaped
}

// startProcess starts cmd and waits for its end in a goroutine of its own.
//
// Pdeathsig is sent when the *thread* ends that made the child, not the process. So that goroutine keeps its thread to
// itself until the child is gone.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, <-started
}

// stop sends the signal, and SIGKILL to the whole tree when that was not enough.
func (p *process) stop(sig syscall.Signal, timeout time.Duration) error {
	_ = syscall.Kill(p.pid, sig)
	select {
	case <-p.done:
		return nil
	case <-time.After(timeout):
		p.killTree()
		return fmt.Errorf("the server did not stop within %s of signal %d and was killed", timeout, sig)
	}
}

// killTree kills the postmaster and its children with SIGKILL and returns when all are gone.
//
// Each child of a postmaster leads a session of its own, so a signal to the process group would miss them. The
// postmaster is halted first, so that it makes no child while we look for them. A restart needs all of them gone: as
// long as one still holds the shared memory, Postgres refuses to start.
func (p *process) killTree() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(p.pid, syscall.SIGSTOP)
	children := childrenOf(p.pid)
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		alive := false
		for _, pid := range children {
			alive = alive || isAlive(pid)
		}
		if !alive {
			return
		}
	}
}

func childrenOf(parent int) []int {
	var children []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if fields := statFields(path); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			children = append(children, pid)
		}
	}
	return children
}

// isAlive says whether the process runs; a zombie that nobody reaped does not.
func isAlive(pid int) bool {
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// statFields gives the fields of /proc/PID/stat after the program's name: state, parent, ...
func statFields(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	// The name is in brackets and may hold any character.
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// removeSharedMemory removes the System V segment that a killed postmaster left behind; its id is in postmaster.pid.
func removeSharedMemory(data string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	if key := strings.Fields(lines[6]); len(key) == 2 {
		if id, err := strconv.Atoi(key[1]); err == nil {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
	}
}
