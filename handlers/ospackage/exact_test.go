package ospackage

import (
	"strings"
	"testing"
)

// Only exactly named packages and their dependencies are installed, whatever the allow-list
// has.
func TestAptInstallsExactlyNamedPackagesOnly(t *testing.T) {
	a := newAgent(t, "*")
	r := newRepository(t)
	r.offer("tt-app 1.0-1", "tt-app 1.0+", "tt-app 2.0-1 Depends: tt-lib", "tt-lib 1-1", "tt-other 1-1 Provides: tt-virtual")
	for name, want := range map[string]string{
		"tt-.+":         "have no package tt-.+", // a regular expression
		"tt-ap.":        "have no package tt-ap.",
		"tt-app+":       "have no package tt-app+", // a change
		"tt-virtual":    "have no package tt-virtual",
		"tt-app-":       `"tt-app-"`,
		"Tt-app":        `"Tt-app" is not the name of a package of Debian`,
		"tt-*":          `"tt-*" is not`, // patterns, a task and a release
		"?name(tt-app)": `"?name(tt-app)" is not`,
		"~ntt-app":      `"~ntt-app" is not`,
		"tt-app^":       `"tt-app^" is not`,
		"tt-app/stable": `"tt-app/stable" is not`,
		"tt-app:i386":   "tt-app:i386: this server has no packages of the architecture i386, but of amd64; add it on the server with `dpkg --add-architecture`",
	} {
		for _, edit := range []func(*testing.T) (Outcome, error){
			func(t *testing.T) (Outcome, error) {
				_, o, err := a.call(t.Context(), `{"packages":[{"name":"`+name+`"}]}`, dryRun)
				return o, err
			},
			func(t *testing.T) (Outcome, error) {
				_, o, err := a.call(t.Context(), `{"packages":[{"name":"`+name+`"}]}`)
				return o, err
			},
		} {
			if o, err := edit(t); err == nil || o.Changed || name != "tt-app-" && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s, %v; want …%s…", name, summary(o), err, want)
			}
		}
	}
	for _, version := range []string{"1*", "1.0^", "/1/"} {
		if _, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app","version":"`+version+`"}]}`); err == nil || o.Changed {
			t.Errorf("%s: %s, %v", version, summary(o), err)
		}
	}
	if got := sh(t, "dpkg-query --show 'tt-*' 2>/dev/null || true"); got != "" {
		t.Errorf("installed: %s", got)
	}
	// A version that ends like a change of apt.
	if _, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app","version":"1.0+"}]}`); err != nil || summary(o) != "changed tt-app >1.0+" {
		t.Errorf("%s, %v", summary(o), err)
	}
}

func TestAptPackageWithArchitecture(t *testing.T) {
	r := newRepository(t)
	r.offer("tt-app 1.0-1", "tt-app 2.0-1")
	native := sh(t, "dpkg --print-architecture")
	for _, allow := range []string{"tt-app", "tt-*", "tt-app:" + native} {
		a := newAgent(t, allow)
		id, o, err := a.call(t.Context(), `{"packages":[{"name":"tt-app:`+native+`","version":"1.0"}]}`)
		if err != nil || summary(o) != "changed tt-app >1.0-1" {
			t.Errorf("%s: %s, %v", allow, summary(o), err)
		}
		if _, o, err = a.call(t.Context(), `{"packages":[{"name":"tt-app:`+native+`"}]}`, undo(id)); err != nil || summary(o) != "changed tt-app 1.0-1>" {
			t.Errorf("%s: %s, %v", allow, summary(o), err)
		}
	}
	a := newAgent(t, "tt-app:"+native)
	for payload, want := range map[string]string{
		`{"packages":[{"name":"tt-app"}]}`:                                  `add "tt-app", or a pattern that it matches, to handlers.package.allow`,
		`{"packages":[{"name":"tt-app:all"}]}`:                              `add "tt-app:all"`,
		`{"packages":[{"name":"tt-lib:` + native + `"}]}`:                   `add "tt-lib:` + native,
		`{"packages":[{"name":"tt-app:` + native + `"},{"name":"tt-app"}]}`: `add "tt-app"`,
	} {
		if _, o, err := a.call(t.Context(), payload); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want …%s…", payload, summary(o), err, want)
		}
	}
	b := newAgent(t, "tt-app")
	if _, o, err := b.call(t.Context(), `{"packages":[{"name":"tt-app:`+native+`"},{"name":"tt-app"}]}`); err == nil || !strings.Contains(err.Error(), "tt-app is listed twice") {
		t.Errorf("%s, %v", summary(o), err)
	}
	// A package of another architecture is another package.
	sh(t, "dpkg --add-architecture i386; printf 'Package: tt-lib\\nVersion: 1-1\\nArchitecture: i386\\nMulti-Arch: same\\nMaintainer: none <none@example.net>\\nDescription: none\\n' >/run/control; d=$(mktemp -d); mkdir $d/DEBIAN; mv /run/control $d/DEBIAN; chmod 755 $d; dpkg-deb --build $d "+r.dir+"/tt-lib_1-1_i386.deb >/dev/null")
	t.Cleanup(func() { sh(t, "dpkg --purge tt-lib:i386; dpkg --remove-architecture i386") })
	r.offer()
	c := newAgent(t, "tt-lib")
	id, o, err := c.call(t.Context(), `{"packages":[{"name":"tt-lib:i386","version":"1"}],"hold":true}`)
	if err != nil || summary(o) != "changed tt-lib:i386 >1-1!" {
		t.Errorf("%s, %v", summary(o), err)
	}
	if _, o, err = c.call(t.Context(), `{"packages":[{"name":"tt-lib:i386","version":"1"}],"hold":true}`); err != nil || summary(o) != "same tt-lib:i386 1-1>1-1!" {
		t.Errorf("%s, %v", summary(o), err)
	}
	if _, o, err = c.call(t.Context(), `{"packages":[{"name":"tt-lib:i386"}]}`, undo(id)); err != nil || summary(o) != "changed tt-lib:i386 1-1>" {
		t.Errorf("%s, %v", summary(o), err)
	}
}

func TestDnfInstallsExactlyNamedPackagesOnly(t *testing.T) {
	a := newAgent(t, "*")
	dir := dnfRepository(t)
	offerRPM(t, dir, "tt-app 1.0 1", "tt-other 1 1 Provides: tt-virtual")
	for name, want := range map[string]string{
		"tt-virtual": "have no package tt-virtual", "tt-app-1.0": "have no package tt-app-1.0", "tt-app:amd64": "is not the name of an rpm package",
	} {
		if _, o, err := a.call(t.Context(), `{"packages":[{"name":"`+name+`"}]}`); err == nil || o.Changed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want …%s…", name, summary(o), err, want)
		}
	}
	if got := sh(t, "rpm -qa 'tt-*'"); got != "" {
		t.Errorf("installed: %s", got)
	}
	b := newAgent(t, "tt-app")
	native := sh(t, "rpm --eval %{_arch}")
	for _, name := range []string{"tt-app", "tt-app.noarch", "tt-app." + native} {
		id, o, err := b.call(t.Context(), `{"packages":[{"name":"`+name+`","version":"1.0"}]}`)
		if err != nil || summary(o) != "changed tt-app >1.0-1" {
			t.Errorf("%s: %s, %v", name, summary(o), err)
		}
		if _, o, err = b.call(t.Context(), `{"packages":[{"name":"`+name+`"}]}`, undo(id)); err != nil || summary(o) != "changed tt-app 1.0-1>" {
			t.Errorf("%s: %s, %v", name, summary(o), err)
		}
	}
}
