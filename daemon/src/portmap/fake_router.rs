//! A router on loopback that follows a script: PCP and NAT-PMP over UDP, UPnP over SSDP and HTTP.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::message::{Granted, says};
use super::plan::Router;

/// The outside address that it says it has.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// How it answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    /// What it opens by PCP, if it speaks that.
    pub(super) pcp: Option<SocketAddrV4>,
    /// What UPnP does, if it has that.
    pub(super) upnp: Option<Upnp>,
}

/// What UPnP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upnp {
    /// Whatever it is asked.
    Grants,
    /// The port that is asked for first is another machine's.
    PortTaken,
    /// No mapping ever ends.
    OnlyForever,
    /// Nothing.
    Refuses,
    /// It describes itself at another machine's address.
    PointsElsewhere(SocketAddr),
}

/// A running router. Dropping it ends it.
#[derive(Debug)]
pub(super) struct FakeRouter {
    /// Where it is.
    pub(super) router: Router,
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl FakeRouter {
    pub(super) async fn start(script: Script) -> FakeRouter {
        let any = || UdpSocket::bind("127.0.0.1:0");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        let server = any().await.unwrap();
        let SocketAddr::V4(server_addr) = server.local_addr().unwrap() else {
            unreachable!("bound to IPv4");
        };
        // Where nothing is spoken nothing listens.
        if let Some(outside) = script.pcp {
            tasks.spawn(speak_pcp(server, outside, heard.clone()));
        }
        let search = any().await.unwrap();
        let upnp_group = search.local_addr().unwrap();
        if let Some(upnp) = script.upnp {
            let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let location = match upnp {
                Upnp::PointsElsewhere(addr) => addr,
                _ => http.local_addr().unwrap(),
            };
            tasks.spawn(answer_searches(search, location));
            tasks.spawn(serve_http(http, upnp, heard.clone()));
        }
        FakeRouter {
            router: Router {
                client: Ipv4Addr::LOCALHOST,
                server: server_addr,
                upnp_group,
            },
            heard,
            _tasks: tasks,
        }
    }

    /// Waits until something was heard that begins so.
    pub(super) async fn heard(&self, begin: &str) {
        let is_heard = || {
            let heard = self.heard.lock().unwrap();
            heard.iter().any(|it| it.starts_with(begin))
        };
        let waiting = async {
            while !is_heard() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(30), waiting).await;
        waited.unwrap_or_else(|_| panic!("the router never heard {begin}"));
    }
}

async fn speak_pcp(socket: UdpSocket, outside: SocketAddrV4, heard: Arc<Mutex<Vec<String>>>) {
    let mut bytes = [0; 1100];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
        let request = &bytes[..length];
        if request.first() != Some(&2) {
            continue;
        }
        if request[1] == 0 {
            socket.send_to(&says::pcp_announce(9), from).await.unwrap();
            continue;
        }
        let lifetime_s = u32::from_be_bytes(request[4..8].try_into().unwrap());
        heard.lock().unwrap().push(format!("pcp map {lifetime_s}"));
        let nonce = request[24..36].try_into().unwrap();
        let inside = u16::from_be_bytes([request[40], request[41]]);
        let granted = Granted {
            port: outside.port(),
            lifetime_s,
        };
        // What is no answer comes first.
        socket.send_to(b"HTTP/1.1 404", from).await.unwrap();
        let answer = says::pcp_map(9, 0, nonce, inside, (*outside.ip(), granted));
        socket.send_to(&answer, from).await.unwrap();
    }
}

async fn answer_searches(socket: UdpSocket, location: SocketAddr) {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
        assert!(bytes[..length].starts_with(b"M-SEARCH"));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
             LOCATION: http://{location}/root.xml\r\n\r\n"
        );
        socket.send_to(b"\xff garbage", from).await.unwrap();
        socket.send_to(answer.as_bytes(), from).await.unwrap();
    }
}

async fn serve_http(listener: TcpListener, upnp: Upnp, heard: Arc<Mutex<Vec<String>>>) {
    let mut adds = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        let (status, body) = match request.split_whitespace().nth(1) {
            Some("/root.xml") => (200, ROOT.to_owned()),
            Some("/scpd.xml") => (200, SCPD.to_owned()),
            _ => {
                let (said, answer) = control(&request, upnp, &mut adds);
                heard.lock().unwrap().push(said);
                answer
            }
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
}

/// What a SOAP request was about, and its answer.
fn control(request: &str, upnp: Upnp, adds: &mut u32) -> (String, (u16, String)) {
    let field = |name: &str| {
        let (_, rest) = request.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let field = |name| field(name).unwrap_or_default();
    if request.contains("GetExternalIPAddress") {
        let ip = format!("<NewExternalIPAddress>{OUTSIDE}</NewExternalIPAddress>");
        return ("address".to_owned(), done("GetExternalIPAddress", &ip));
    }
    if request.contains("DeletePortMapping") {
        let said = format!("delete {}", field("NewExternalPort"));
        return (said, done("DeletePortMapping", ""));
    }
    *adds += 1;
    let said = format!(
        "add {} {} {} {}",
        field("NewExternalPort"),
        field("NewInternalClient"),
        field("NewInternalPort"),
        field("NewLeaseDuration")
    );
    let answer = match upnp {
        Upnp::PortTaken if *adds == 1 => fault(718),
        Upnp::OnlyForever if field("NewLeaseDuration") != "0" => fault(725),
        Upnp::Refuses => fault(606),
        _ => done("AddPortMapping", ""),
    };
    (said, answer)
}

fn done(action: &str, fields: &str) -> (u16, String) {
    let body = format!(
        "<u:{action}Response xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">{fields}\
         </u:{action}Response>"
    );
    (200, envelope(&body))
}

fn fault(code: u16) -> (u16, String) {
    let body = format!(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode>\
         <errorDescription>no</errorDescription></UPnPError></detail></s:Fault>"
    );
    (500, envelope(&body))
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope \
         xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>"
    )
}

const ROOT: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>/control</controlURL><SCPDURL>/scpd.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"#;

const SCPD: &str = r#"<?xml version="1.0"?>
<scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>
<action><name>AddPortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument>
<argument><name>NewInternalPort</name><direction>in</direction></argument>
<argument><name>NewInternalClient</name><direction>in</direction></argument>
<argument><name>NewEnabled</name><direction>in</direction></argument>
<argument><name>NewPortMappingDescription</name><direction>in</direction></argument>
<argument><name>NewLeaseDuration</name><direction>in</direction></argument>
</argumentList></action>
<action><name>DeletePortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument>
</argumentList></action>
</actionList></scpd>"#;
