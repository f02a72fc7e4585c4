package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is the user that the servers run as.
type account struct {
	uid, gid int
	other    bool // not ourselves
}

// serverAccount is postgres or nobody when we are root, else ourselves.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return account{uid: uid, gid: gid, other: true}, nil
		}
	}
	return account{}, fmt.Errorf("postgres refuses to run as root, and there is neither a user postgres nor nobody")
}

func (a account) credential() *syscall.Credential {
	if !a.other {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

const (
	folderPattern = "cba-"
	lockName      = "lock"
)

// makeFolder makes the folder of a cluster. The lock in it is held until we end, however that comes: so a folder whose
// lock is free belongs to nobody.
func makeFolder(parent string, a account) (string, *os.File, error) {
	dir, err := os.MkdirTemp(parent, folderPattern)
	if err != nil {
		return "", nil, err
	}
	// It gets its name when it is locked: a sweep of another process must not find it free.
	lock, err := os.CreateTemp(dir, "")
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(lock.Name(), filepath.Join(dir, lockName))
	}
	if err == nil && a.other {
		err = os.Chown(dir, a.uid, a.gid)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, err
	}
	return dir, lock, nil
}

// sweep removes what clusters of dead owners left. Whatever it cannot or should not touch it leaves.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, folderPattern+"*"))
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue // not ours, or about to get its lock
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			data := filepath.Join(dir, "data")
			killOrphan(data)
			removeSharedMemory(data)
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

// killOrphan kills a postmaster that outlived its owner. The kernel should have done so; this is for systems where it
// did not. The process is taken for one only when it works in that very folder.
func killOrphan(data string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil || pid <= 1 {
		return
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != data {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT)
	for deadline := time.Now().Add(5 * time.Second); isAlive(pid) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// freePort gives a port below the range from which the kernel takes those of outgoing connections: between a Kill and a
// Restart nobody gets it by chance.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between 20000 and 32000 on 127.0.0.1")
}

// makeReachable copies the programs into the cluster's folder when the server's user cannot get at them, as with a
// repository below /root.
func (c *Cluster) makeReachable(ctx context.Context) error {
	if !c.account.other || c.command(ctx, "postgres", "--version").Run() == nil {
		return nil
	}
	copied := filepath.Join(c.Dir, "pg")
	if out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Dir(c.bin), copied).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the programs of Postgres: %w: %s", err, out)
	}
	for _, dir := range []string{copied, filepath.Join(copied, "bin")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	c.bin = filepath.Join(copied, "bin")
	if out, err := c.command(ctx, "postgres", "--version").CombinedOutput(); err != nil {
		return fmt.Errorf("run postgres as another user: %w: %s", err, out)
	}
	return nil
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail gives the last lines of the file, from offset on.
func tail(path string, offset int64) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text[min(offset, int64(len(text))):]), 20)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
