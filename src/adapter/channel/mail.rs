//! Mail by SMTP, in plain text.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::hidden::Hidden;
use super::text::{limited, line, plain};
use crate::adapter::call;
use crate::configuration::{Channel as Declared, MailSecurity, Secret};
use crate::domain::notify::{Notice, Sent};
use crate::port::Channel;

/// The longest that one step of the dialogue may take, and with it the connection.
const STEP: Duration = Duration::from_secs(10);
/// The longest that a message may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of a subject: more is cut off by what shows it.
const SUBJECT_MAX: usize = 150;
/// Characters of an error.
const WORDS_MAX: usize = 300;

/// Sends to a few addresses by one server.
pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    hidden: Hidden,
}

impl Mail {
    pub fn new(declared: &Declared, password: Option<Secret>) -> Result<Self, String> {
        let host = declared.host.as_deref().ok_or("say which server sends the mail: host")?;
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let parameters = || TlsParameters::new(host.to_owned()).map_err(|error| format!("set up TLS: {error}"));
        let (tls, port) = match declared.security {
            MailSecurity::Starttls => (Tls::Required(parameters()?), 587),
            MailSecurity::Tls => (Tls::Wrapper(parameters()?), 465),
            MailSecurity::None if local => (Tls::None, 25),
            MailSecurity::None => return Err(format!("security: none is for loopback, and {host} is elsewhere")),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .tls(tls)
            .port(declared.port.unwrap_or(port))
            .timeout(Some(STEP));
        let mut hidden = Hidden::of([]);
        match (&declared.user, password) {
            (Some(user), Some(password)) => {
                let password = password.reveal();
                // The second is what AUTH PLAIN says.
                hidden = Hidden::of([password.to_owned(), format!("\0{user}\0{password}")]);
                transport = transport.credentials(Credentials::new(user.clone(), password.to_owned()));
            }
            (None, None) => {}
            (Some(_), None) => return Err("say the user's password: password_env or password_file".to_owned()),
            (None, Some(_)) => return Err("say whose password it is: user".to_owned()),
        }
        let address = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("`{}`: {error}", line(text)));
        let from = address(declared.from.as_deref().ok_or("say from whom the mail is: from")?)?;
        let to = declared.to.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("say to whom the mail goes: to".to_owned());
        }
        Ok(Self { transport: transport.build(), from, to, hidden })
    }

    fn message(&self, notice: &Notice) -> Result<Message, String> {
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(limited(&format!("[tipoff] {}", line(&notice.title)), SUBJECT_MAX))
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        message.body(plain(notice)).map_err(|error| error.to_string())
    }

    /// What the server said, which may repeat what it was told.
    fn words(&self, error: &lettre::transport::smtp::Error) -> String {
        limited(&line(&self.hidden.clean(&call::chain(error))), WORDS_MAX)
    }
}

/// Says that nobody wrote it, so that nobody's absence note answers it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[async_trait]
impl Channel for Mail {
    async fn send(&self, notice: &Notice) -> Sent {
        let message = match self.message(notice) {
            Ok(message) => message,
            Err(error) => return Sent::Refused(error),
        };
        match tokio::time::timeout(TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Sent::Taken,
            Ok(Err(error)) => {
                let why = self.words(&error);
                // What the server says of this mail, its size, and not of us or of the addresses: 554 is "relay denied" and
                // "sender blocked" more often than not, and 552 is a full mailbox where its text says 5.2.2.
                let of_mail =
                    error.status().is_some_and(|code| matches!(u16::from(code), 523 | 552)) && !why.contains("5.2.2");
                match (error.is_permanent(), of_mail) {
                    (true, true) => Sent::Refused(why),
                    (true, false) => Sent::Dead(why),
                    (false, _) => Sent::Later { wait: None, why },
                }
            }
            Err(_) => Sent::Later { wait: None, why: format!("no answer within {} s", TIMEOUT.as_secs()) },
        }
    }

    async fn reach(&self) -> Result<(), String> {
        match tokio::time::timeout(TIMEOUT, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("the server does not answer".to_owned()),
            Ok(Err(error)) => Err(self.words(&error)),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}
