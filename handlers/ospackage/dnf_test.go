package ospackage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
)

func TestParseDnfTable(t *testing.T) {
	t.Parallel()
	const table = `Dependencies resolved.
================================================================================
 Package          Architecture  Version               Repository           Size
================================================================================
Installing:
 tt-app           noarch        1:2.0-1               local               6.0 k
     replacing  tt-old.noarch 1-1
 a-package-with-a-rather-long-name
                  x86_64        0.0.1-20260101git0123 updates-and-more    1.1 M
Installing dependencies:
 tt-lib           noarch        1-1                   local               6.0 k
Removing:
 tt-user          noarch        1-1                   @local              120  

Transaction Summary
================================================================================
Install  3 Packages
Operation aborted.
`
	want := "[{tt-app  1:2.0-1} {a-package-with-a-rather-long-name  0.0.1-20260101git0123} {tt-lib  1-1} {tt-user 1-1 }]"
	var got []string
	for _, c := range parseDnfTable(table, "x86_64") {
		got = append(got, fmt.Sprintf("{%s %s %s}", c.Name, c.From, c.To))
	}
	if text := fmt.Sprint(got); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// dnfRepository makes the host an rpm host with its own repository.
func dnfRepository(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	sh(t, `cp /etc/os-release /run/os-release.was; rm /etc/os-release; echo ID=fedora >/etc/os-release
printf '[tt]\nname=tt\nbaseurl=file://`+dir+`\ngpgcheck=0\n' >/etc/yum.repos.d/tt.repo`)
	t.Cleanup(func() {
		sh(t, "rpm -qa 'tt-*' | xargs -r rpm -e --nodeps; rm /etc/yum.repos.d/tt.repo; : >/etc/dnf/plugins/versionlock.list; cp /run/os-release.was /etc/os-release; rm -rf /var/cache/dnf/*")
	})
	return dir
}

// offerRPM adds packages to a repository, like repository.offer.
func offerRPM(t *testing.T, dir string, packages ...string) {
	t.Helper()
	for _, p := range packages {
		words := strings.SplitN(p, " ", 4)
		more, script := "", ""
		if len(words) == 4 {
			more = words[3]
			if before, after, ok := strings.Cut(more, "pre:"); ok {
				more, script = before, "%%pre -p <lua>\n"+after
			}
		}
		sh(t, fmt.Sprintf(`printf 'Name: %[1]s\nVersion: %[2]s\nRelease: %[3]s\nSummary: a test\nLicense: none\nBuildArch: noarch\n%[4]s\n%%%%description\na test\n%[5]s\n%%%%files\n' >/run/tt.spec
rpmbuild --quiet -bb --define '_topdir /run/tt' --define '_rpmdir %[6]s' /run/tt.spec; rm -r /run/tt`, words[0], words[1], words[2], more, script, dir))
	}
	sh(t, "createrepo_c --quiet "+dir)
}

func TestDnf(t *testing.T) {
	a := newAgent(t, "tt-*")
	dir := dnfRepository(t)
	offerRPM(t, dir, "tt-app 1.0 1", "tt-app 2.0 1 Requires: tt-lib", "tt-lib 1 1", `tt-bad 1 1 pre:error("no such database")`)
	steps := []struct{ payload, dryRun, want, again, undone string }{
		{`{"packages":[{"name":"tt-app","version":"1.0"}]}`, "", "changed tt-app >1.0-1", "same tt-app 1.0-1>1.0-1", ""},
		{`{"packages":[{"name":"tt-app"}],"hold":true}`, "", "changed tt-app 1.0-1>1.0-1!", "", ""},
		{
			`{"packages":[{"name":"tt-app"}],"state":"latest","hold":true}`, "dry run changed tt-app 1.0-1>2.0-1! tt-lib >1-1*",
			"changed tt-app 1.0-1>2.0-1! tt-lib >1-1*", "same tt-app 2.0-1>2.0-1!", "changed tt-app 2.0-1>1.0-1! tt-lib 1-1>*",
		},
		{
			`{"packages":[{"name":"tt-app"}],"state":"absent","hold":false}`, "dry run changed tt-app 1.0-1>",
			"changed tt-app 1.0-1>", "", "changed tt-app >1.0-1!",
		},
	}
	for _, s := range steps {
		check := func(want string, edit ...func(*handlers.Call)) (id string) {
			t.Helper()
			if want == "" {
				return ""
			}
			id, o, err := a.call(t.Context(), s.payload, edit...)
			if err != nil || summary(o) != want {
				t.Errorf("%s: %s, %v; want %s\n%s", s.payload, summary(o), err, want, a.out)
			}
			return id
		}
		check(s.dryRun, dryRun)
		id := check(s.want)
		check(s.again)
		check(s.undone, undo(id))
	}
	// Without the plugin, packages cannot be held.
	plugins := sh(t, "ls /usr/lib/python3/dist-packages/dnf-plugins/versionlock.py")
	sh(t, "mv "+plugins+" /run/versionlock.py")
	if _, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-lib"}],"hold":true}`, dryRun); err == nil || !strings.Contains(err.Error(), "dnf needs its plugin versionlock") {
		t.Errorf("%s, %v", summary(o), err)
	}
	sh(t, "mv /run/versionlock.py "+plugins)
	for payload, want := range map[string]string{
		`{"packages":[{"name":"tt-app","version":"7"}]}`:       "version 7 of tt-app is not in the repositories of this server (available: 2.0-1, 1.0-1)",
		`{"packages":[{"name":"tt-nothing"}]}`:                 "tt-nothing",
		`{"packages":[{"name":"tt-bad"}]}`:                     "the package manager failed with exit code 1: ",
		`{"packages":[{"name":"tt-app"}],"lock_timeout":"2h"}`: "payload.lock_timeout: 2h0m0s is more than",
	} {
		if _, o, err := a.call(t.Context(), payload); err == nil || !strings.Contains(err.Error(), want) || o.Changed {
			t.Errorf("%s: %s, %v; want …%s…", payload, summary(o), err, want)
		}
	}
	sh(t, "sed -i 's|^baseurl=.*|baseurl=http://127.0.0.1:9/rpm|' /etc/yum.repos.d/tt.repo")
	if _, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-lib"}],"state":"latest"}`); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:9/rpm") || !strings.HasSuffix(err.Error(), "no package was changed") || o.Changed {
		t.Errorf("%s, %v", summary(o), err)
	}
}
