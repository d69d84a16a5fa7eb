//! Probing by the standard health service of gRPC.

use std::time::Duration;

use tonic::{
    client::Grpc,
    transport::{Channel, Endpoint},
};

use super::{Finding, tcp};

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

pub async fn probe(host: &str, port: u16, service: &str, patience: Duration) -> Finding {
    let address = tcp::address(host, port);
    let check = async {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| e.to_string())?
            .user_agent("kube-probe/1.36")
            .map_err(|e| e.to_string())?
            .connect()
            .await
            .map_err(|_| format!("error: failed to connect service at {address:?}"))?;
        check(channel, service).await
    };
    match tokio::time::timeout(patience, check).await {
        Err(_) => Finding::Failure(format!(
            "timeout: failed to connect service {address:?} within {}s: context deadline exceeded",
            patience.as_secs()
        )),
        Ok(Err(message)) => Finding::Failure(message),
        Ok(Ok(SERVING)) => Finding::Success,
        Ok(Ok(status)) => Finding::Failure(format!("service unhealthy (responded with {:?})", name(status))),
    }
}

async fn check(channel: Channel, service: &str) -> Result<i32, String> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service: service.into() });
    match client.unary(request, path, codec).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == tonic::Code::Unimplemented => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Err(format!("error: health rpc failed: {}", status.message())),
    }
}

const fn name(status: i32) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}
