package config

// Client is the configuration of the CLI, ~/.config/tasker/config.yaml.
type Client struct {
	// URL is the control plane's.
	URL URI `yaml:"url"`
	// Token or TokenFile is who calls; not both.
	Token     Secret `yaml:"token"`
	TokenFile string `yaml:"token_file"`
	// CAFile holds the certificates, in PEM, that are trusted beside the system's.
	CAFile string `yaml:"ca_file"`
}

// Secret returns the token, from wherever it is.
func (c Client) Secret() (Secret, error) {
	if c.Token != "" {
		return c.Token, nil
	}
	return readToken(c.TokenFile)
}

func (d *document) checkClient(c *Client) {
	if c.URL != "" {
		d.checkHTTP("url", c.URL)
	}
	if c.Token != "" && c.TokenFile != "" {
		d.problem("token_file", "there is a token already; remove one of the two")
	}
	d.checkToken("token_file", c.TokenFile)
	d.checkCertificates("ca_file", c.CAFile)
}
