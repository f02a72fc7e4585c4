package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The demo is the whole program at work: it must hold, and its first entry be there within the promised minute.
func TestDemoOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	var out, progress strings.Builder
	if code := run(t.Context(), []string{"demo", "--once"}, &out, &progress); code != exitDone {
		t.Fatalf("exit code %d\n%s\n%s", code, progress.String(), out.String())
	}
	if !strings.Contains(out.String(), "All of it held.") {
		t.Errorf("the output does not say so:\n%s", out.String())
	}
	// The second scenario begins when an entry of the first one is on the screen.
	m := regexp.MustCompile(`(?m)^ *([0-9.]+) s  S02`).FindStringSubmatch(progress.String())
	if m == nil {
		t.Fatalf("no second scenario:\n%s", progress.String())
	}
	if seconds, _ := strconv.ParseFloat(m[1], 64); seconds > 60 {
		t.Errorf("the first entry took %s seconds", m[1])
	}
}

// The commands that the demo offers work as they are printed; everyday work arrives; Ctrl-C leaves nothing.
func TestDemoInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	program := filepath.Join(t.TempDir(), "casebook-audit")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program, "demo")
	cmd.Dir = t.TempDir()
	screen, tty := io.Pipe()
	cmd.Stdout, cmd.Stderr = tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		tty.Close()
	}()
	deadline := time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() })
	defer deadline.Stop()

	var said strings.Builder
	lines := bufio.NewScanner(screen)
	wait := func(what string) string {
		t.Helper()
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), what) {
				return lines.Text()
			}
		}
		t.Fatalf("the demo ended without saying %q:\n%s", what, said.String())
		return ""
	}
	var ports [2]string
	line := wait("audit database on port")
	if m := regexp.MustCompile(`port (\d+).*port (\d+)`).FindStringSubmatch(line); m != nil {
		ports = [2]string(m[1:])
	} else {
		t.Fatalf("no ports in %q", line)
	}
	metrics := regexp.MustCompile(`http://\S+/metrics`).FindString(wait("The log answers"))
	curl, query, verify := wait("curl -H"), wait(" query "), wait(" verify")
	wait("Ctrl-C")
	tryCurl(t, curl)
	checkAlertMetrics(t, metrics)
	var folder string
	for _, line := range []string{query, verify} {
		args := shellWords(line)
		folder = filepath.Dir(args[2])
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	wait("Maria Alvarez") // the trickle

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, screen)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after Ctrl-C: %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		t.Fatal("Ctrl-C does not end the demo")
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", folder, err)
	}
	for _, port := range ports {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			t.Errorf("something still listens on port %s", port)
		}
	}
}

// tryCurl asks what the printed curl command asks.
func tryCurl(t *testing.T, line string) {
	t.Helper()
	args := shellWords(line)
	req, err := http.NewRequest(http.MethodGet, args[len(args)-1], nil)
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(args[2], ": ")
	req.Header.Set(name, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); resp.StatusCode != http.StatusOK || err != nil || len(answer) == 0 {
		t.Errorf("%s: %s, %v\n%s", line, resp.Status, err, body)
	}
	if !strings.Contains(string(body), "J. Sullivan") {
		t.Errorf("%s: nothing of that record in\n%s", line, body)
	}
}

// checkAlertMetrics: an alert on a metric that does not exist never fires.
func checkAlertMetrics(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`casebook_audit_[a-z_]+`).FindAllString(string(rules), -1)
	slices.Sort(names)
	// These two are there with signing keys and anchors only, which the demo's daemon has not.
	anchors := []string{"casebook_audit_anchor_failing", "casebook_audit_oldest_unanchored_seconds"}
	for _, name := range slices.Compact(names) {
		if slices.Contains(anchors, name) {
			continue
		}
		if !strings.Contains(string(body), "# TYPE "+name+" ") {
			t.Errorf("deploy/alerts.yaml watches %s, which the daemon does not have", name)
		}
	}
}

// shellWords cuts a line as a shell does that knows single quotes only.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
