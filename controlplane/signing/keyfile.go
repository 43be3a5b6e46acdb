// Package signing keeps the keys with which the control planes sign orders and callbacks.
// The private keys are in a file of each control plane; the database has the public keys,
// so that a reader of the database cannot sign.
//
//   - [Open] reads the file, or creates it with the first keys. It moves keys that an
//     older version has stored in the database into the file.
//   - A [Keyring] signs with the key whose time has come, and introduces new keys to the
//     agents. It reads file and database again while it runs.
//   - [Rotate] adds the next key.
package signing

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
	"github.com/MatthiasWiesner/tasker/internal/privatefile"
)

// FileName is the default name of the key file in the control plane's data_dir.
const FileName = "signing.key"

// The types of the PEM blocks in a key file.
const (
	orderBlock    = "PRIVATE KEY" // PKCS #8
	callbackBlock = "TASKER CALLBACK SECRET"
)

// secretSize is the size of the callback secret in bytes.
const secretSize = 32

// keyFile is the content of a key file: keys that sign orders, oldest first, and the
// secret that signs callbacks, which may be nil.
type keyFile struct {
	orders   []ed25519.PrivateKey
	callback []byte
}

// readFile reads a key file. The error wraps fs.ErrNotExist if there is none.
func readFile(path string) (keyFile, error) {
	content, err := privatefile.Read(path)
	if err != nil {
		return keyFile{}, fmt.Errorf("read the signing key: %w", err)
	}
	f, err := decode(content)
	if err != nil {
		return keyFile{}, fmt.Errorf("read the signing key: %s: %w", path, err)
	}
	return f, nil
}

func decode(content []byte) (keyFile, error) {
	var f keyFile
	for block, rest := pem.Decode(content); ; block, rest = pem.Decode(rest) {
		switch {
		case block == nil && len(bytes.TrimSpace(rest)) > 0:
			return keyFile{}, errors.New("it contains text that is not PEM")
		case block == nil:
			return f, nil
		case block.Type == orderBlock:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return keyFile{}, errors.New("a private key in it is damaged")
			}
			private, ok := key.(ed25519.PrivateKey)
			if !ok {
				return keyFile{}, fmt.Errorf("it contains a %T; use an Ed25519 key", key)
			}
			f.orders = append(f.orders, private)
		case block.Type == callbackBlock && f.callback == nil && len(block.Bytes) == secretSize:
			f.callback = block.Bytes
		default:
			return keyFile{}, fmt.Errorf("it contains an unexpected or damaged block %q", block.Type)
		}
	}
}

func (f keyFile) encode() ([]byte, error) {
	var b bytes.Buffer
	for _, key := range f.orders {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode the signing key: %w", err)
		}
		if err := pem.Encode(&b, &pem.Block{Type: orderBlock, Bytes: der}); err != nil {
			return nil, fmt.Errorf("encode the signing key: %w", err)
		}
	}
	if f.callback != nil {
		if err := pem.Encode(&b, &pem.Block{Type: callbackBlock, Bytes: f.callback}); err != nil {
			return nil, fmt.Errorf("encode the callback secret: %w", err)
		}
	}
	return b.Bytes(), nil
}

// private returns the private key of a public key; nil if the file does not have it.
func (f keyFile) private(public []byte) ed25519.PrivateKey {
	i := slices.IndexFunc(f.orders, func(key ed25519.PrivateKey) bool { return bytes.Equal(publicKey(key), public) })
	if i < 0 {
		return nil
	}
	return f.orders[i]
}

// create writes a new file. The error wraps fs.ErrExist if the file exists.
func (f keyFile) create(path string) error {
	return f.save(path, func(path string, content []byte) error {
		return atomicfile.Create(path, content, func(file *os.File) error { return atomicfile.CopyOwner(file, filepath.Dir(path)) })
	})
}

// replace replaces the file, which keeps its owner and its mode.
func (f keyFile) replace(path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("write the signing key: %w", err)
	}
	return f.save(target, func(path string, content []byte) error {
		return atomicfile.Replace(path, content, func(file *os.File) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return errors.Join(atomicfile.CopyOwner(file, path), file.Chmod(info.Mode().Perm()))
		})
	})
}

func (f keyFile) save(path string, write func(string, []byte) error) error {
	content, err := f.encode()
	if err != nil {
		return err
	}
	switch err := write(path, content); {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("write the signing key to %s: %w; if this is a systemd credential, start once without signing.key_file, then move %s from data_dir to the credential's source", path, err, FileName)
	case err != nil:
		return fmt.Errorf("write the signing key to %s: %w", path, err)
	}
	return nil
}

func newOrderKey() ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	_, _ = rand.Read(seed[:]) // It never fails.
	return ed25519.NewKeyFromSeed(seed[:])
}

func newCallbackSecret() []byte {
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // It never fails.
	return secret
}

func publicKey(key ed25519.PrivateKey) []byte { return key.Public().(ed25519.PublicKey) } //nolint:errcheck // Ed25519 keys have no other type

// digest identifies the callback secret, which has no public part.
func digest(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:]
}
