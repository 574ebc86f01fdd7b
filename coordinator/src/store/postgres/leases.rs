//! Leases as rows, on the database's clock.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::batch::{signed, unsigned};
use super::service::Fault;
use super::store::PostgresStore;
use crate::store::event_store::StoreFuture;
use crate::store::lease::{Claim, Lease, LeaseError, Leases, check_lease};

/// The clock is looked at when the row is locked, not when the statement began to wait for that.
const CLAIM: &str = "
    INSERT INTO leases AS l (name, holder, epoch, expires_at)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond')
    ON CONFLICT (name) DO UPDATE
        SET epoch = l.epoch + (l.holder IS DISTINCT FROM excluded.holder)::integer, holder = excluded.holder,
            expires_at = clock_timestamp() + $3 * interval '1 microsecond'
        WHERE l.holder IS NULL OR l.holder = excluded.holder OR l.expires_at <= clock_timestamp()
    RETURNING epoch";

const HOLDER: &str = "
    SELECT holder, epoch, greatest(extract(epoch FROM expires_at - clock_timestamp()) * 1000000, 0)::bigint
    FROM leases WHERE name = $1 AND holder IS NOT NULL";

const RENEW: &str = "
    UPDATE leases SET expires_at = clock_timestamp() + $4 * interval '1 microsecond'
    WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()";

const RELEASE: &str = "
    UPDATE leases SET holder = NULL, expires_at = clock_timestamp()
    WHERE name = $1 AND holder = $2 AND epoch = $3";

impl From<Fault> for LeaseError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(failure) => failure.into(),
            Fault::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl Leases for PostgresStore {
    fn claim<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> StoreFuture<'a, Result<Claim, LeaseError>> {
        Box::pin(async move {
            check_lease(name, holder, ttl)?;
            let wish = Lease { name: name.to_owned(), holder: holder.to_owned(), epoch: 0, ttl };
            let claimed = self.service().call("claim a lease in", move |connection| {
                let wish = wish.clone();
                Box::pin(async move { claim(connection, wish).await })
            });
            Ok(claimed.await?)
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> StoreFuture<'a, Result<Lease, LeaseError>> {
        Box::pin(async move {
            check_lease(&lease.name, &lease.holder, ttl)?;
            let held = lease.clone();
            let renewed = self.service().call("renew a lease in", move |connection| {
                let held = held.clone();
                Box::pin(async move {
                    let query = sqlx::query(RENEW).bind(held.name).bind(held.holder).bind(signed(held.epoch));
                    query.bind(micros(ttl)).execute(connection).await
                })
            });
            if renewed.await?.rows_affected() == 0 {
                let Lease { name, holder, epoch, .. } = lease.clone();
                return Err(LeaseError::Lost { name, holder, epoch });
            }
            Ok(Lease { ttl, ..lease.clone() })
        })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, Result<(), LeaseError>> {
        Box::pin(async move {
            let held = lease.clone();
            let released = self.service().call("release a lease in", move |connection| {
                let held = held.clone();
                Box::pin(async move {
                    let query =
                        sqlx::query(RELEASE).bind(held.name).bind(held.holder).bind(signed(held.epoch));
                    query.execute(connection).await
                })
            });
            released.await?;
            Ok(())
        })
    }
}

async fn claim(connection: &mut PgConnection, wish: Lease) -> Result<Claim, sqlx::Error> {
    loop {
        let query = sqlx::query_scalar(CLAIM).bind(&wish.name).bind(&wish.holder).bind(micros(wish.ttl));
        let epoch: Option<i64> = query.fetch_optional(&mut *connection).await?;
        if let Some(epoch) = epoch {
            return Ok(Claim::Held(Lease { epoch: unsigned(epoch), ..wish }));
        }
        let taken: Option<(String, i64, i64)> =
            sqlx::query_as(HOLDER).bind(&wish.name).fetch_optional(&mut *connection).await?;
        if let Some((holder, epoch, left)) = taken {
            let ttl = Duration::from_micros(unsigned(left));
            return Ok(Claim::Taken(Lease { name: wish.name, holder, epoch: unsigned(epoch), ttl }));
        }
        // Given back between the two looks: it is free. The call's time bounds this.
    }
}

fn micros(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}
