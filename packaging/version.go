package packaging

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// describedCommit matches a tag vX.Y.Z, the number of commits since, and the commit.
var describedCommit = regexp.MustCompile(`^v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?)-(\d+)-g[0-9a-f]+$`)

// Version returns the packages' version of the commit that is checked out: X.Y.Z of its
// tag, or X.Y.Z.N with the number N of commits since the last tag (0.0.0.N without any
// tag). Every format sorts X.Y.Z.N between X.Y.Z and the next release.
func Version(ctx context.Context, root string) (string, error) {
	out, err := git(ctx, root, "describe", "--tags", "--long", "--match=v[0-9]*")
	if err != nil {
		count, err := git(ctx, root, "rev-list", "--count", "HEAD")
		return "0.0.0." + count, err
	}
	match := describedCommit.FindStringSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("find the version: git describes this commit as %q, which does not begin with a tag like v1.2.3", out)
	}
	if match[2] == "0" {
		return match[1], nil
	}
	return match[1] + "." + match[2], nil
}

// Time returns the modification time for the packages' files: SOURCE_DATE_EPOCH, or the
// time of the commit that is checked out.
func Time(ctx context.Context, root string) (time.Time, error) {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		var err error
		if seconds, err = git(ctx, root, "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, err
		}
	}
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse the time (SOURCE_DATE_EPOCH) %q: %w", seconds, err)
	}
	return time.Unix(s, 0).UTC(), nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
