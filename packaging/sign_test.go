package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const passphrase = "of a test"

// newKey creates a key for one test, and returns it and the file of the public key, once
// armored and once not.
func newKey(t *testing.T) (key Key, armored, keyring string) {
	t.Helper()
	entity, err := openpgp.NewEntity("Test", "", "test@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 3072})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, blockType string, serialize func(*bytes.Buffer) error) (string, string) {
		var plain, text bytes.Buffer
		if err := serialize(&plain); err != nil {
			t.Fatal(err)
		}
		w, err := armor.Encode(&text, blockType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		base := filepath.Join(dir, name)
		for file, content := range map[string][]byte{base + ".asc": text.Bytes(), base + ".gpg": plain.Bytes()} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return base + ".asc", base + ".gpg"
	}
	armored, keyring = write("public", openpgp.PublicKeyType, func(b *bytes.Buffer) error { return entity.Serialize(b) })
	if err := entity.EncryptPrivateKeys([]byte(passphrase), nil); err != nil {
		t.Fatal(err)
	}
	private, _ := write("private", openpgp.PrivateKeyType, func(b *bytes.Buffer) error { return entity.SerializePrivateWithoutSigning(b, nil) })
	return Key{File: private, Passphrase: passphrase}, armored, keyring
}

// TestSignatures verifies signatures with the tools of the distributions.
func TestSignatures(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	key, armored, keyring := newKey(t)
	_, _, otherKeyring := newKey(t)
	o := Options{
		Root: root, Out: t.TempDir(), Work: t.TempDir(), Version: "1.2.3", ProgramVersion: "1.2.3-tested",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Architectures: []string{"amd64"}, Formats: []string{"deb", "rpm"}, Key: key,
	}
	names, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 3*2+2 || names[len(names)-1] != signatureFile {
		t.Fatalf("created %q", names)
	}
	verify := func(t *testing.T, signature, signed string) {
		t.Helper()
		requireTool(t, "gpgv")
		run(t, "gpgv", "--keyring", keyring, signature, signed)
		if out, err := exec.CommandContext(t.Context(), "gpgv", "--keyring", otherKeyring, signature, signed).CombinedOutput(); err == nil {
			t.Errorf("another key verifies %s:\n%s", signed, out)
		}
	}
	t.Run("checksums", func(t *testing.T) {
		verify(t, filepath.Join(o.Out, signatureFile), filepath.Join(o.Out, checksumsFile))
	})
	for _, deb := range packageFiles(t, o, "deb") {
		t.Run(filepath.Base(deb), func(t *testing.T) {
			requireTool(t, "ar")
			dir := t.TempDir()
			var signed []byte
			for _, member := range []string{"debian-binary", "control.tar.gz", "data.tar.xz"} {
				out, err := exec.CommandContext(t.Context(), "ar", "p", deb, member).Output() //nolint:gosec // our package
				if err != nil || len(out) == 0 {
					t.Fatalf("%s has no %s (%v)", deb, member, err)
				}
				signed = append(signed, out...)
			}
			signature, err := exec.CommandContext(t.Context(), "ar", "p", deb, "_gpgorigin").Output() //nolint:gosec // our package
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{"signed": signed, "signature": signature} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			verify(t, filepath.Join(dir, "signature"), filepath.Join(dir, "signed"))
		})
	}
	t.Run("rpm", func(t *testing.T) {
		requireTool(t, "rpmkeys")
		rpms := packageFiles(t, o, "rpm")
		empty, imported := t.TempDir(), t.TempDir()
		run(t, "rpmkeys", "--dbpath", imported, "--import", armored)
		for _, rpm := range rpms {
			out := run(t, "rpmkeys", "--dbpath", imported, "--checksig", "--verbose", rpm)
			if !strings.Contains(out, "ignature") || !strings.Contains(out, ": OK") {
				t.Errorf("%s has no signature:\n%s", rpm, out)
			}
			if out, err := exec.CommandContext(t.Context(), "rpmkeys", "--dbpath", empty, "--checksig", rpm).CombinedOutput(); err == nil { //nolint:gosec // our package
				t.Errorf("%s is verified without the key:\n%s", rpm, out)
			}
		}
	})
}

// TestUnusableKeyIsRefused: the build fails before it compiles.
func TestUnusableKeyIsRefused(t *testing.T) {
	t.Parallel()
	key, public, _ := newKey(t)
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.WriteFile(shared, nil, 0o644); err != nil { //nolint:gosec // the reason of the refusal
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key  Key
		want string
	}{
		"missing":              {Key{File: key.File + ".missing"}, "no such file"},
		"readable by others":   {Key{File: shared}, "chmod 600"},
		"public key":           {Key{File: public}, "exactly one private key"},
		"without a passphrase": {Key{File: key.File}, "set PACKAGE_KEY_PASSPHRASE"},
		"wrong passphrase":     {Key{File: key.File, Passphrase: "wrong"}, "decrypt it with PACKAGE_KEY_PASSPHRASE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Build(t.Context(), Options{Root: t.TempDir(), Key: tt.key})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.key.File) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}
