//! Calls of procedures.

use bytes::Bytes;
use luge_protocol::{
    CallReply, CallsKill, Command, DryRunReply, LimitsRequest, NoArguments, RunningCall,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, decode_output};

impl Client {
    /// Calls `module.procedure` with a value, and answers the value that it returns. Both travel as
    /// MessagePack, the fields of structs by name.
    ///
    /// # Errors
    /// [`Error::Server`]: `rejected` where the procedure refuses ([`Error::rejected`] tells what it
    /// said), `not_found` where there is none of this name, and the codes of a function's failures.
    /// In all these cases nothing of the call was stored. [`Error::Output`] where the procedure
    /// succeeded, but returned something else.
    pub async fn call<A, R>(&self, procedure: &str, arguments: &A) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let arguments = rmp_serde::to_vec_named(arguments)
            .map_err(|error| Error::Arguments(error.to_string()))?;
        let output = self.call_raw(procedure, arguments).await?;
        decode_output(&output)
    }

    /// Calls `module.procedure` with bytes, and answers the bytes that it returns.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_raw(
        &self,
        procedure: &str,
        arguments: impl AsRef<[u8]>,
    ) -> Result<Bytes, Error> {
        self.call_within(procedure, arguments, None).await
    }

    /// Calls `module.procedure` with bytes, under limits below the module's own.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within(
        &self,
        procedure: &str,
        arguments: impl AsRef<[u8]>,
        limits: Option<LimitsRequest>,
    ) -> Result<Bytes, Error> {
        let call = luge_protocol::Call {
            procedure: procedure.into(),
            arguments: arguments.as_ref().into(),
            dry_run: None,
            limits: limits.map(Box::new),
        };
        let CallReply(output) = self.request(Command::Call(call)).await?;
        Ok(output)
    }

    /// Runs `module.procedure` with bytes to its end, and tells what it would have written: nothing is.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn dry_run(
        &self,
        procedure: &str,
        arguments: impl AsRef<[u8]>,
    ) -> Result<DryRunReply, Error> {
        let call = luge_protocol::Call {
            procedure: procedure.into(),
            arguments: arguments.as_ref().into(),
            dry_run: Some(true),
            limits: None,
        };
        self.request(Command::Call(call)).await
    }

    /// The requests that run functions at this moment, the oldest first.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn running_calls(&self) -> Result<Vec<RunningCall>, Error> {
        self.request(Command::CallsList(NoArguments {})).await
    }

    /// Ends a call, which is answered `killed` and has written nothing. One that is being committed
    /// already is not stopped any more.
    ///
    /// # Errors
    /// [`Error::Server`] with `not_found` where no such call runs.
    pub async fn kill(&self, call: u64) -> Result<(), Error> {
        self.request(Command::CallsKill(CallsKill { call })).await
    }
}
