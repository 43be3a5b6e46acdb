package config

// Client is the configuration of the CLI, ~/.config/tasker/config.yaml.
type Client struct {
	// URL is the URL of the control plane.
	URL URI `yaml:"url"`
	// Token and TokenFile identify the caller; only one of them may be set.
	Token     Secret `yaml:"token"`
	TokenFile string `yaml:"token_file"`
	// CAFile contains PEM certificates to trust in addition to those of the system.
	CAFile string `yaml:"ca_file"`
	// AllowPlainText permits to send the token to another machine without encryption;
	// default: false.
	AllowPlainText Switch `yaml:"allow_plain_text"`
}

// Secret returns the token, or reads it from its file.
func (c Client) Secret() (Secret, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	return readToken(c.TokenFile)
}
