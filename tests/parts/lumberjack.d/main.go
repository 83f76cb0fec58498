// Receives Lumberjack (Beats) protocol v2 as Logstash's Beats input does, by Elastic's own server library. Each
// event becomes a line of JSON in a file, and then the batch is acknowledged.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"github.com/elastic/go-lumber/server"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5044", "address and port")
	out := flag.String("out", "", "file to append events to")
	cert := flag.String("cert", "", "certificate chain, PEM: turns TLS on")
	key := flag.String("key", "", "its key")
	ca := flag.String("ca", "", "authority that clients' certificates must come from")
	pause := flag.Duration("pause", 0, "time from receiving a batch to acknowledging it")
	flag.Parse()

	file, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(err)
	options := []server.Option{server.V1(false), server.V2(true), server.JSONDecoder(decode)}
	if *cert != "" {
		options = append(options, server.TLS(configure(*cert, *key, *ca)))
	}
	receiver, err := server.ListenAndServe(*listen, options...)
	check(err)
	log.Printf("listening on %s", *listen)
	for batch := range receiver.ReceiveChan() {
		var lines bytes.Buffer
		for _, event := range batch.Events {
			line, err := json.Marshal(event)
			check(err)
			lines.Write(append(line, '\n'))
		}
		_, err := file.Write(lines.Bytes())
		check(err)
		time.Sleep(*pause)
		batch.ACK()
		log.Printf("acknowledged %d events", len(batch.Events))
	}
}

// Numbers stay as they were written: a float64 would round large ones.
func decode(text []byte, into interface{}) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

func configure(cert, key, ca string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		check(err)
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			log.Fatalf("%s holds no certificate", ca)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
