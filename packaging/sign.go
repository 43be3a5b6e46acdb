package packaging

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/goreleaser/nfpm/v2"
)

// signatureFile has the detached signature of the checksums, for `gpg --verify`.
const signatureFile = checksumsFile + ".asc"

// Key is the OpenPGP key that signs packages. Its zero value signs nothing.
type Key struct {
	// File is the path of the private key, which may be armored.
	File string
	// Passphrase decrypts the key, if it is encrypted.
	Passphrase string
}

// check returns an error if the key cannot sign, so that a build fails before it compiles.
func (k Key) check() error {
	if k.File == "" {
		return nil
	}
	_, err := k.sign([]byte("test"))
	return err
}

// configure sets the signatures of a .deb and an .rpm package. The other formats are
// covered by the signed checksums only: .apk needs a key of another kind.
func (k Key) configure(info *nfpm.Info) {
	signature := nfpm.PackageSignature{KeyFile: k.File, KeyPassphrase: k.Passphrase}
	info.Deb.Signature.PackageSignature = signature
	info.RPM.Signature.PackageSignature = signature
}

// sign returns an armored detached signature.
func (k Key) sign(content []byte) ([]byte, error) {
	entity, err := k.read()
	if err != nil {
		return nil, fmt.Errorf("read the key that signs packages, %s: %w", k.File, err)
	}
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, entity, bytes.NewReader(content), &packet.Config{DefaultHash: crypto.SHA256}); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.File, err)
	}
	return append(b.Bytes(), '\n'), nil
}

// read returns the only key of the file, decrypted.
func (k Key) read() (*openpgp.Entity, error) {
	info, err := os.Stat(k.File)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errors.New("other users can read it: chmod 600 " + k.File)
	}
	content, err := os.ReadFile(k.File)
	if err != nil {
		return nil, err
	}
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(content))
	if err != nil {
		if keys, err = openpgp.ReadKeyRing(bytes.NewReader(content)); err != nil {
			return nil, err
		}
	}
	if len(keys) != 1 || keys[0].PrivateKey == nil {
		return nil, errors.New("it must contain exactly one private key: export it with gpg --export-secret-keys --armor KEY")
	}
	if k.Passphrase != "" {
		if err := keys[0].DecryptPrivateKeys([]byte(k.Passphrase)); err != nil {
			return nil, fmt.Errorf("decrypt it with PACKAGE_KEY_PASSPHRASE: %w", err)
		}
	}
	if keys[0].PrivateKey.Encrypted {
		return nil, errors.New("it is encrypted: set PACKAGE_KEY_PASSPHRASE")
	}
	return keys[0], nil
}

// signChecksums writes the signature of the checksums.
func (o Options) signChecksums() error {
	sums, err := os.ReadFile(filepath.Join(o.Out, checksumsFile))
	if err != nil {
		return fmt.Errorf("read the checksums: %w", err)
	}
	signature, err := o.Key.sign(sums)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Out, signatureFile), signature, 0o644); err != nil { //nolint:gosec // for everyone
		return fmt.Errorf("write the signature of the checksums: %w", err)
	}
	return nil
}
