// Command tasker-controlplane is the control plane: it serves the HTTP API, stores tasks
// in the database, and exchanges messages with the agents.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/handlers/builtin"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// version is set when the program is built.
var version = "development"

func main() { os.Exit(daemon.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tasker-controlplane",
		Short: "Send tasks to servers and store the outcomes",
		Long: `tasker-controlplane accepts tasks over HTTP, sends them to the agents on the servers
and stores the outcome of every server.

Exit codes: 0 stopped on request, 1 failed, 2 invalid command line or configuration.`,
		Version: version,
		Args:    cobra.NoArgs,
	}
	src := daemon.AddSource(root, "config", "/etc/tasker-controlplane/config.yaml")
	root.AddCommand(runCommand(src), initializeCommand(src), callbackSecretCommand(src), signingKeyCommand(src), checkCommand(src), daemon.VersionCommand(version))
	return root
}

// load reads the configuration. It also returns the path of the file.
func load(src *config.Source) (*config.ControlPlane, string, error) {
	var names []string
	for _, info := range builtin.Infos() {
		names = append(names, info.Name)
	}
	return config.LoadControlPlane(*src, names)
}

func checkCommand(src *config.Source) *cobra.Command {
	return &cobra.Command{
		Use: "check-config", Short: "Check the configuration without starting", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, file, err := load(src)
			if err != nil {
				return err
			}
			if warning := certificateWarning(c); warning != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), cmd.Root().Name()+": warning: "+warning)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", file)
			return nil
		},
	}
}

func initializeCommand(src *config.Source) *cobra.Command {
	var database, rabbitmq, reset bool
	cmd := &cobra.Command{
		Use:   "initialize",
		Short: "Create the database tables and the RabbitMQ user, vhost and exchanges",
		Long: `initialize creates what the configuration names and is missing: the database and its
tables, and in RabbitMQ the user, the vhost, its permissions and the exchanges. For
RabbitMQ it uses the management API as the superuser of the section rabbitmq. It can be
repeated. Without --database or --rabbitmq it initializes both.

--reset first deletes everything: all tasks and all messages.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(src)
			if err != nil {
				return err
			}
			both := !database && !rabbitmq
			if rabbitmq && c.MessageQueue.URI == "" {
				return errors.New("initialize --rabbitmq: message_queue.uri is empty, so agents connect to the API and there is no RabbitMQ to initialize")
			}
			if database || both {
				if err := initializeDatabase(cmd, c, reset); err != nil {
					return daemon.Failed(err)
				}
			}
			if c.MessageQueue.URI != "" && (rabbitmq || both) {
				return daemon.Failed(initializeRabbitMQ(cmd, c, reset))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&database, "database", false, "initialize the database only")
	cmd.Flags().BoolVar(&rabbitmq, "rabbitmq", false, "initialize RabbitMQ only")
	cmd.Flags().BoolVar(&reset, "reset", false, "first delete everything: all tasks and all messages")
	return cmd
}

func initializeDatabase(cmd *cobra.Command, c *config.ControlPlane, reset bool) (err error) {
	ctx, uri := cmd.Context(), c.Database.URI
	if err := store.CreateDatabase(ctx, uri.Reveal()); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{URI: uri.Reveal(), DataDir: c.DataDir, Types: c.Types()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if reset {
		err = s.Reset(ctx)
	} else {
		err = s.Migrate(ctx)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "database %s is ready\n", uri)
	return nil
}

func initializeRabbitMQ(cmd *cobra.Command, c *config.ControlPlane, reset bool) error {
	err := management.Initialize(cmd.Context(), management.Options{
		APIURL: c.RabbitMQ.APIURL.Reveal(), Username: c.RabbitMQ.Username, Password: c.RabbitMQ.Password.Reveal(),
		URI: c.MessageQueue.URI.Reveal(), Types: c.Types(), Reset: reset, Log: daemon.NewLogger(c.Log, os.Stderr),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "RabbitMQ %s is ready\n", c.MessageQueue.URI)
	return nil
}
