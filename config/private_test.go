package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/internal/selfcert"
)

// writeMode writes a file with exactly the mode.
func writeMode(t *testing.T, name, content string, mode fs.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Chmod(file, mode)); err != nil {
		t.Fatal(err)
	}
	return file
}

// checkRefused checks that a file is refused with the command that mends its mode.
func checkRefused(t *testing.T, err error, key, file string) {
	t.Helper()
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Key != key || !strings.HasSuffix(problems[0].Message, "run: chmod 600 "+file) {
		t.Errorf("got %v, want a problem of %s and chmod 600 %s", err, key, file)
	}
}

func TestConfigurationWithSecretMustBePrivate(t *testing.T) {
	t.Parallel()
	const types = "task_types: [ping]\n"
	for key, content := range map[string]string{
		"database.uri":      types + "database: {uri: mysql://tasker:hunter2@127.0.0.1/tasker}\n",
		"message_queue.uri": types + "message_queue: {uri: amqps://tasker:hunter2@broker/tasker}\n",
		"rabbitmq.password": types + "rabbitmq: {password: hunter2}\n",
		"":                  types + "rabbitmq: {password: guest}\ndatabase: {uri: \"sqlite:tasker.db\"}\nmessage_queue: {uri: \"${QUEUE}\"}\n",
	} {
		for _, mode := range []fs.FileMode{0o600, 0o644} {
			file := writeMode(t, "config.yaml", content, mode)
			variables := func(string) (string, bool) { return "amqps://tasker:hunter2@broker/tasker", true }
			_, _, err := config.LoadControlPlane(config.Source{File: file, Env: variables}, []string{"ping"})
			if mode == 0o644 && key != "" {
				checkRefused(t, err, key, file)
			} else if err != nil {
				t.Errorf("%q with mode %o: %v", key, mode, err)
			}
		}
	}
}

func TestAgentConfigurationWithSecretMustBePrivate(t *testing.T) {
	t.Parallel()
	file := writeMode(t, "config.yaml", "endpoint: web-1\naccept_unsigned_orders: true\nserver: {uri: amqps://web-1:hunter2@broker/tasker}\n", 0o644)
	_, _, err := config.LoadAgent(config.Source{File: file}, nil)
	checkRefused(t, err, "server.uri", file)
}

func TestTokenFileMustBePrivate(t *testing.T) {
	t.Parallel()
	token := writeMode(t, "token", "s3cret\n", 0o644)
	file := writeMode(t, "config.yaml", "endpoint: web-1\nserver: {token_file: "+token+"}\n", 0o644)
	_, _, err := config.LoadAgent(config.Source{File: file}, nil)
	checkRefused(t, err, "server.token_file", token)
	client := writeMode(t, "client.yaml", "token_file: "+token+"\n", 0o644)
	_, err = config.LoadClient(config.Source{File: client})
	checkRefused(t, err, "token_file", token)
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.LoadAgent(config.Source{File: file}, nil); err != nil {
		t.Errorf("after chmod 600: %v", err)
	}
}

func TestEnrolmentFileMustBePrivate(t *testing.T) {
	t.Parallel()
	file := writeMode(t, "enrol.yaml", "server: https://cp:8888\ntoken: tasker-enrol-x\n", 0o644)
	_, err := config.LoadEnrol(config.Source{File: file})
	checkRefused(t, err, "token", file)
}

func TestKeyOfCertificateMustBePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := selfcert.Load(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, selfcert.KeyFile)
	if err := errors.Join(os.Chmod(key, 0o644), os.Chmod(filepath.Join(dir, selfcert.CertFile), 0o644)); err != nil {
		t.Fatal(err)
	}
	file := writeMode(t, "config.yaml", "task_types: [ping]\napi: {tls: {cert: "+filepath.Join(dir, selfcert.CertFile)+", key: "+key+"}}\n", 0o644)
	_, _, err := config.LoadControlPlane(config.Source{File: file}, []string{"ping"})
	checkRefused(t, err, "api.tls.key", key)
}

func TestStateFilesMustBePrivate(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"signing.key": "signing.key_file", "admin.token": "data_dir", "agent.token": "data_dir", "tls.key": "data_dir"} {
		secret := writeMode(t, name, "s3cret", 0o644)
		file := writeMode(t, "config.yaml", "task_types: [ping]\ndata_dir: "+filepath.Dir(secret)+"\n", 0o644)
		_, _, err := config.LoadControlPlane(config.Source{File: file}, []string{"ping"})
		checkRefused(t, err, key, secret)
	}
}
