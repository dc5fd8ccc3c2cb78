/** TLS codes: what Node and OpenSSL call that which TLS itself makes fail, a handshake or a certificate. https://nodejs.org/api/tls.html#x509-certificate-error-codes */

const TLS = /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|EPROTO)/

export function isTlsCode(code: string): boolean {
  return TLS.test(code)
}
